"""Documents: what is saved is loaded, of two who save the same revision one is refused, and clients see none of it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from durable_streams.protocol.errors import DocumentChanged, ProtocolError, StorageFull, TooLarge
from durable_streams.storage.contract import Storage
from durable_streams.streams.batch import Limits
from durable_streams.streams.internal.documents import DOCUMENT_BYTES_MAX, Document, Documents, Save
from tests.contract.driving import SECONDS_MAX, Kind, Streams, all_at_once
from tests.contract.shared_storage import Database, SharedStorage
from tests.faults import FaultyStorage


def documents_of(streams: Streams) -> Documents:
    return streams.store.documents


def test_what_is_saved_is_loaded(streams: Streams) -> None:
    assert documents_of(streams).load("a/b") is None
    revision = documents_of(streams).save("a/b", b"one", None)
    assert documents_of(streams).load("a/b") == Document(b"one", revision)
    newer = documents_of(streams).save("a/b", b"", revision)
    assert newer != revision
    assert documents_of(streams).load("a/b") == Document(b"", newer)


def test_documents_outlive_a_restart(lasting: Streams) -> None:
    revisions = {
        f"d{number}": documents_of(lasting).save(f"d{number}", b"%d" % number, None) for number in range(20)
    }
    for number in range(0, 20, 2):
        key = f"d{number}"
        revisions[key] = documents_of(lasting).save(key, b"newer %d" % number, revisions[key])
    documents_of(lasting).delete("d7", revisions.pop("d7"))
    lasting.reopen()
    assert documents_of(lasting).keys() == sorted(revisions)
    for key, revision in revisions.items():
        number = int(key[1:])
        assert documents_of(lasting).load(key) == Document(
            b"%d" % number if number % 2 else b"newer %d" % number, revision
        )


@pytest.mark.parametrize("step", ["save", "delete"])
def test_only_the_newest_revision_can_be_replaced(streams: Streams, step: str) -> None:
    documents = documents_of(streams)
    first = documents.save("d", b"first", None)
    second = documents.save("d", b"second", first)
    before = streams.contents()
    for stale in (first, "never given out"):
        with pytest.raises(DocumentChanged):
            documents.save("d", b"stale", stale) if step == "save" else documents.delete("d", stale)
    with pytest.raises(DocumentChanged):
        documents.save("d", b"stale", None)
    assert streams.contents() == before
    documents.delete("d", second)
    assert documents.load("d") is None
    # A document that was deleted and made again is another one.
    documents.save("d", b"third", None)
    for stale in (first, second):
        with pytest.raises(DocumentChanged):
            documents.save("d", b"stale", stale)


def test_of_many_who_save_one_revision_one_does(streams: Streams) -> None:
    revision = documents_of(streams).save("d", b"first", None)
    outcomes = all_at_once(
        *[partial(documents_of(streams).save, "d", b"%d" % number, revision) for number in range(20)]
    )
    winners = [number for number, outcome in enumerate(outcomes) if not isinstance(outcome, ProtocolError)]
    assert len(winners) == 1
    found = documents_of(streams).load("d")
    assert found == Document(b"%d" % winners[0], outcomes[winners[0]])


def test_counters_that_many_raise_lose_nothing(streams: Streams) -> None:
    """Load, save, and again after a refusal: what every user of documents does."""

    def raise_one() -> str:
        while True:
            found = documents_of(streams).load("counter")
            body, revision = (b"0", None) if found is None else found
            try:
                return documents_of(streams).save("counter", b"%d" % (int(body) + 1), revision)
            except DocumentChanged:
                continue

    all_at_once(*[raise_one] * 12)
    found = documents_of(streams).load("counter")
    assert found is not None
    assert found.body == b"12"


def test_many_saves_are_answered_one_by_one(streams: Streams) -> None:
    documents = documents_of(streams)
    revision = documents.save("b", b"old", None)
    outcomes = documents.save_all(
        [Save("a", b"1", None), Save("b", b"2", "stale"), Save("b", b"3", revision), Save("c", b"4", None)]
    )
    assert isinstance(outcomes[1], DocumentChanged)
    loaded = [documents.load(key) for key in ("a", "b", "c")]
    assert loaded == [
        Document(b"1", str(outcomes[0])),
        Document(b"3", str(outcomes[2])),
        Document(b"4", str(outcomes[3])),
    ]


def test_keys_are_listed_in_order_and_in_parts(streams: Streams) -> None:
    streams.create("a/3")
    documents = documents_of(streams)
    names = sorted(["a", "a/1", "a/2", "b", "a-b", "ä"])
    documents.save_all([Save(name, b"", None) for name in names])
    assert documents.keys() == names
    assert documents.keys("a/") == ["a/1", "a/2"]
    assert documents.keys("", "a/1", 2) == names[names.index("a/1") + 1 :][:2]
    assert documents.keys("nothing") == []


@pytest.mark.parametrize("key", ["", "a\0b"])
def test_a_key_that_cannot_be_a_name_is_refused(streams: Streams, key: str) -> None:
    with pytest.raises(ValueError, match="key of a document"):
        documents_of(streams).save(key, b"", None)


def test_a_document_has_a_limit(streams: Streams) -> None:
    documents_of(streams).save("d", bytes(DOCUMENT_BYTES_MAX), None)
    with pytest.raises(TooLarge, match=f"larger than {DOCUMENT_BYTES_MAX} bytes"):
        documents_of(streams).save("e", bytes(DOCUMENT_BYTES_MAX + 1), None)


def test_documents_are_hidden_from_lists_of_streams(streams: Streams) -> None:
    names = ["A", "__d", "__ds-", "__dt", "a", "b"]
    for name in names:
        streams.create(name)
    documents_of(streams).save_all([Save(f"d{number}", b"", None) for number in range(5)])
    assert streams.store.names("", "", 100) == sorted(names)
    for limit in range(1, 8):
        assert streams.store.names("", "", limit) == sorted(names)[:limit]
        assert streams.store.names("", "__ds-", limit) == ["__dt", "a", "b"][:limit]
        assert streams.store.names("__d", "", limit) == ["__d", "__ds-", "__dt"][:limit]
    assert streams.store.names("__ds/", "", 100) == []


def test_the_sweeper_leaves_documents_alone(streams: Streams) -> None:
    documents_of(streams).save("d", b"body", None)
    streams.clock.now += 1e9
    assert streams.store.sweep() == 0
    assert documents_of(streams).load("d") is not None


def test_a_save_that_is_not_kept_changes_nothing(kind: Kind, tmp_path: Path) -> None:
    fails = False

    def fault(primitive: str, number: int) -> Exception | None:
        return StorageFull("on purpose") if fails and primitive == "commit" else None

    def build(folder: Path) -> Storage:
        return FaultyStorage(kind.build(folder), fault)

    streams = Streams(Kind(kind.name, build), tmp_path, Limits())
    revision = documents_of(streams).save("d", b"kept", None)
    fails = True
    with pytest.raises(StorageFull):
        documents_of(streams).save("d", b"not kept", revision)
    assert documents_of(streams).load("d") == Document(b"kept", revision)
    fails = False
    documents_of(streams).save("d", b"newer", revision)
    streams.close()


def test_a_save_is_one_commit(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("durable_streams.streams.pipeline.BATCH_DECIDING_S_MAX", SECONDS_MAX)
    commits = 0

    def count(primitive: str, number: int) -> Exception | None:
        nonlocal commits
        commits += primitive == "commit"
        return None

    streams = Streams(
        Kind(kind.name, lambda folder: FaultyStorage(kind.build(folder), count)), tmp_path, Limits()
    )
    revision = documents_of(streams).save("d", b"one", None)
    documents_of(streams).save("d", b"two", revision)
    assert commits == 2
    documents_of(streams).save_all([Save(f"d{number}", b"", None) for number in range(100)])
    assert commits <= 2 + streams.storage.shards
    streams.close()


# -- two stores over one storage ------------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Documents, Documents]]:
    database = Database()
    stores = [
        Streams(Kind(name, lambda _: SharedStorage(database)), tmp_path, Limits())
        for name in ("one", "other")
    ]
    yield documents_of(stores[0]), documents_of(stores[1])
    for store in stores:
        store.close()


def test_of_two_processes_that_save_one_revision_one_does(two: tuple[Documents, Documents]) -> None:
    one, other = two
    revision = one.save("d", b"first", None)
    assert other.load("d") == Document(b"first", revision)
    outcomes = all_at_once(
        partial(one.save, "d", b"of one", revision), partial(other.save, "d", b"of the other", revision)
    )
    assert sum(isinstance(outcome, DocumentChanged) for outcome in outcomes) == 1
    assert one.load("d") == other.load("d")
    # Neither is it made twice, nor brought back.
    outcomes = all_at_once(partial(one.save, "new", b"", None), partial(other.save, "new", b"", None))
    assert sum(isinstance(outcome, DocumentChanged) for outcome in outcomes) == 1
    found = other.load("d")
    assert found is not None
    other.delete("d", found.revision)
    with pytest.raises(DocumentChanged):
        one.save("d", b"back", found.revision)


def test_a_document_that_is_saved_while_it_is_loaded_is_loaded_whole(
    two: tuple[Documents, Documents],
) -> None:
    one, other = two
    revision = one.save("d", b"0" * 10, None)

    def save_all() -> str:
        latest = revision
        for number in range(1, 30):
            latest = one.save("d", b"%d" % (number % 10) * 10, latest)
        return latest

    def load_some() -> str:
        for _ in range(30):
            found = other.load("d")
            assert found is not None
            assert found.body == found.body[:1] * 10
        return ""

    outcomes = all_at_once(save_all, load_some)
    assert not [outcome for outcome in outcomes if isinstance(outcome, ProtocolError)]
