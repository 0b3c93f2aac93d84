"""Every call to a storage fails once: what was refused is as if it had never been asked, and work goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event

from durable_streams.protocol.errors import (
    InternalError,
    OutcomeUnknown,
    PathBlocked,
    ProtocolError,
    StorageFull,
    StreamDamaged,
    StreamNotFound,
    Unavailable,
)
from durable_streams.protocol.expiry import has_expired
from durable_streams.protocol.outcomes import Appended
from durable_streams.protocol.state import RECHECK_DELETED_S
from durable_streams.storage.contract import Lost, Unit
from durable_streams.streams.batch import Limits
from durable_streams.streams.deciding import decide
from tests.contract.driving import KINDS, Kind, Streams, all_at_once, append_request, recorded
from tests.faults import FaultyStorage

JSON = "application/json"

SCRIPT: Sequence[tuple[str, Callable[[Streams], Any]]] = [
    ("create", lambda streams: streams.create("a", b"abc", ttl=100)),
    ("append", lambda streams: streams.append("a", b"def", seq="1", producer=("p", 0, 0))),
    ("again", lambda streams: streams.append("a", b"def", seq="1", producer=("p", 0, 0))),
    ("json", lambda streams: streams.create("j", b"[1, 2, 3]", JSON)),
    ("fork", lambda streams: streams.fork("f", "a", b"own", position=1, sub_offset=2)),
    ("fork again", lambda streams: streams.fork("f", "a", b"own", position=1, sub_offset=2)),
    ("fork json", lambda streams: streams.fork("k", "j", position=0, sub_offset=2)),
    ("fork of a fork", lambda streams: streams.fork("g", "f")),
    ("append json", lambda streams: streams.append("j", b"[4]", content_type=JSON)),
    ("close json", lambda streams: streams.append("j", b"", close=True)),
    ("fork what is closed", lambda streams: streams.fork("m", "j", b"[5]")),
    ("touch", lambda streams: _later(streams, 50)),
    ("last", lambda streams: streams.append("f", b"!", close=True)),
    ("delete a source", lambda streams: streams.remove("a")),
    ("delete a middle", lambda streams: streams.remove("f")),
    ("delete the last", lambda streams: streams.remove("g")),
    ("create again", lambda streams: streams.create("a", b"new", ttl=10)),
    ("expire", lambda streams: _later(streams, 60)),
    ("create after expiry", lambda streams: streams.create("a", b"newer")),
    ("delete a fork", lambda streams: streams.remove("k")),
    ("delete its source", lambda streams: streams.remove("j")),
    ("delete its last fork", lambda streams: streams.remove("m")),
    ("create in its place", lambda streams: streams.create("j", b"x")),
]
"""Every step that the store has, and each of them in more than one way."""


def _later(streams: Streams, seconds: float) -> None:
    """Time passes for all alike, also when reads and sweeps fail."""
    streams.clock.now += seconds
    for name in ("a", "j"):
        with suppress(ProtocolError):
            streams.store.touch(streams.find(name))
    streams.store.sweep()


class Fault:
    """Raises ``error`` at the ``number``-th call of the primitives of ``kinds``, or never."""

    def __init__(self, kinds: set[str], error: Callable[[], Exception], number: int = -1) -> None:
        self.calls = 0
        self.hit = ""
        self._kinds = kinds
        self._error = error
        self._number = number

    def __call__(self, primitive: str, _: int) -> Exception | None:
        if primitive not in self._kinds:
            return None
        self.calls += 1
        if self.calls - 1 != self._number:
            return None
        self.hit = primitive
        return self._error()


def open_faulty(kind: Kind, folder: Path, fault: Fault, **limits: int) -> Streams:
    faulty = Kind(kind.name, lambda path: FaultyStorage(kind.build(path), fault))
    return Streams(faulty, folder, Limits(**limits))


def visible(streams: Streams) -> dict[str, Any]:
    """What clients can tell: not which references wait to be dropped, nor what makes uids differ."""
    fault, inner = streams.storage, streams.storage
    assert isinstance(fault, FaultyStorage)
    inner = fault.inner
    found: dict[str, Any] = {}
    for name in inner.names("", "", 1000):
        state = recorded(inner, name)
        assert state is not None
        if state.deleted or has_expired(state, streams.clock.now):
            continue
        own = inner.read(state, state.config.forked_at, state.tail)
        producers = {key: (known.epoch, known.seq) for key, known in state.producers.items()}
        found[name] = (own, state.tail, state.closed, state.stream_seq, producers, state.config.expiry)
    return found


def run(streams: Streams, plain: Streams) -> None:
    """The script on both; what ``streams`` refuses for a fault is not done to ``plain``."""
    for name, step in SCRIPT:
        try:
            step(streams)
        except (StorageFull, Unavailable, StreamDamaged, PathBlocked):
            # A name stays blocked until the sweeper has found a reference that could not be released.
            assert visible(streams) == visible(plain), f"{name} was refused and has changed something"
            continue
        except ProtocolError as refusal:
            # What an earlier step was to make is not there: then it must be missing for both.
            with pytest.raises(type(refusal)):
                step(plain)
            continue
        step(plain)
        assert visible(streams) == visible(plain), f"{name} was answered and is not there"


def remove_everything(streams: Streams) -> None:
    """The faults are over: nothing is held by anything that was left half done."""
    for name in visible(streams):
        # One whose time is over is not there to be deleted; the sweeper has it.
        with suppress(StreamNotFound):
            streams.remove(name)
    streams.clock.now += 4000
    streams.sweep()
    assert streams.contents() == {}


FAULTY_USUALLY = ("memory", "memory-queued", "file-durable", "acid", "shared")
"""Faults come from above the storage, so `make test` takes one of each way to commit."""


@pytest.fixture(params=[kind.param(is_long=kind.name not in FAULTY_USUALLY) for kind in KINDS])
def lives(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[Fault], Streams]]:
    opened: list[Streams] = []

    def live(fault: Fault) -> Streams:
        streams = open_faulty(request.param, tmp_path / str(len(opened)), fault)
        opened.append(streams)
        return streams

    yield live
    for streams in opened:
        streams.close()


def plain_streams(tmp_path: Path) -> Streams:
    return open_faulty(KINDS[0], tmp_path, Fault(set(), StorageFull))


@pytest.mark.parametrize(
    ("kinds", "error"),
    [
        ({"commit"}, StorageFull),
        pytest.param({"commit"}, Unavailable, marks=pytest.mark.long),
        ({"known", "find", "read"}, partial(StreamDamaged, "flipped")),
    ],
    ids=["full", "unavailable", "damaged"],
)
def test_a_fault_at_any_call_leaves_everything_as_it_was(
    lives: Callable[[Fault], Streams], tmp_path: Path, kinds: set[str], error: Callable[[], Exception]
) -> None:
    counting = Fault(kinds, error)
    run(lives(counting), plain_streams(tmp_path))
    assert counting.calls >= 20
    for number in range(counting.calls):
        fault = Fault(kinds, error, number)
        streams = lives(fault)
        try:
            run(streams, plain_streams(tmp_path))
            assert fault.hit
            remove_everything(streams)
        except BaseException:
            print(f"fault at call {number} of {counting.calls}")
            raise


NOT_KEPT = [
    (kind, error) for kind in KINDS for error in (StorageFull, Unavailable) if kind.storage.counts_as_memory
]


@pytest.mark.parametrize(
    ("kind", "error"), NOT_KEPT, ids=[f"{kind.name}-{error.__name__}" for kind, error in NOT_KEPT]
)
def test_no_memory_is_held_by_bytes_that_were_not_kept(
    kind: Kind, tmp_path: Path, error: Callable[[], Exception], payload_alone: None
) -> None:
    fault = Fault({"commit"}, error, 1)
    streams = open_faulty(kind, tmp_path, fault, memory_bytes_max=100)
    streams.create()
    with suppress(StorageFull, Unavailable):
        streams.append(body=b"x" * 60)
    assert fault.hit
    streams.append(body=b"y" * (100 - streams.find().tail))
    assert streams.find().tail == 100
    streams.close()


def test_one_damaged_stream_does_not_keep_the_sweeper_from_the_others(
    lives: Callable[[Fault], Streams],
) -> None:
    streams = lives(Fault(set(), StorageFull))
    for name in ("a", "b", "c"):
        streams.create(name, ttl=10)
    storage = streams.storage
    assert isinstance(storage, FaultyStorage)
    streams.clock.now += streams.window(10)
    storage.damaged.add("a")
    assert streams.store.sweep() == 2
    storage.damaged.clear()
    assert list(streams.contents()) == ["a"]


def test_a_damaged_fork_is_a_fork_to_its_source(lives: Callable[[Fault], Streams]) -> None:
    streams = lives(Fault(set(), StorageFull))
    streams.create(body=b"abc")
    streams.fork("damaged")
    streams.fork("other")
    storage = streams.storage
    assert isinstance(storage, FaultyStorage)
    storage.damaged.add("damaged")
    streams.remove()
    streams.clock.now += RECHECK_DELETED_S
    assert streams.sweep() == 1
    streams.remove("other")
    storage.damaged.clear()
    assert streams.read("damaged") == b"abc"


def test_a_damaged_stream_does_not_keep_a_stop_from_its_work(
    lives: Callable[[Fault], Streams],
) -> None:
    streams = lives(Fault(set(), StorageFull))
    for name in ("a", "b"):
        streams.create(name, ttl=800)
    streams.clock.now += 50
    for name in ("a", "b"):
        streams.store.touch(streams.find(name))
    storage = streams.storage
    assert isinstance(storage, FaultyStorage)
    storage.damaged.add("a")
    writers = [gevent.spawn(streams.store.append, append_request("b")) for _ in range(5)]
    gevent.sleep(0)
    streams.store.close()
    gevent.joinall(writers, raise_error=True)
    if type(storage.inner).__module__.startswith("durable_streams.storage.files"):
        streams.open()
        state = recorded(streams.storage, "b")
        assert state is not None
        assert (state.tail, state.touched_at) == (5, streams.clock.now)


def test_when_there_is_no_room_for_all_there_may_be_for_some(tmp_path: Path) -> None:
    """A batch that is too large is tried again one by one."""
    kind = next(kind for kind in KINDS if kind.name == "memory-queued")
    streams = open_faulty(kind, tmp_path, Fault(set(), StorageFull))
    storage = streams.storage
    assert isinstance(storage, FaultyStorage)
    streams.create()
    commit = storage.inner.commit

    def room_for_ten_bytes(shard: int, units: Sequence[Unit], rests_on: Any) -> Lost:
        if sum(len(data) for unit in units for change in unit for data in change.appended) > 10:
            raise StorageFull("ten bytes")
        return commit(shard, units, rests_on)

    storage.inner.commit = room_for_ten_bytes  # type: ignore[method-assign]
    bodies = [b"1234567", b"x" * 11, b"89", b"y" * 12, b"0"]
    outcomes = all_at_once(*[partial(streams.store.append, append_request(body=body)) for body in bodies])
    assert [isinstance(outcome, Appended) for outcome in outcomes] == [True, False, True, False, True]
    assert [type(outcome) for outcome in outcomes[1::2]] == [StorageFull, StorageFull]
    assert streams.read() == b"1234567890"


def test_after_an_unknown_outcome_a_partition_takes_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Going on could lose or repeat what was acknowledged; other shards and all readers go on."""
    kind = next(kind for kind in KINDS if kind.name == "memory-queued")
    fault = Fault(set(), partial(OSError, "the disk said nothing"))
    streams = open_faulty(kind, tmp_path, fault)
    names = [f"s{number}" for number in range(12)]
    for name in names:
        streams.create(name, b"abc")
    fault._kinds, fault._number = {"commit"}, fault.calls
    with caplog.at_level(logging.CRITICAL):
        outcomes = all_at_once(*[partial(streams.store.append, append_request("s0"))] * 3)
    assert all(isinstance(outcome, InternalError) for outcome in outcomes)
    assert "the disk said nothing" in caplog.text
    assert streams.store.failed
    shard = streams.storage.shard_of
    for name in names:
        assert streams.read(name) == b"abc"
        if shard(name) == shard("s0"):
            with pytest.raises(Unavailable):
                streams.append(name)
        else:
            streams.append(name)


@pytest.mark.parametrize("moment", ["while it waits", "while it commits"])
def test_a_committer_that_is_killed_keeps_nobody_waiting(
    moment: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody should (`gevent.killall` in somebody else's app would): who waits is told, and the server is not ready."""
    kind = next(kind for kind in KINDS if kind.name == "memory-queued")
    streams = open_faulty(kind, tmp_path, Fault(set(), StorageFull))
    streams.create(body=b"abc")
    began, go_on = Event(), Event()
    commit = streams.storage.commit

    def slow_commit(shard: int, units: Sequence[Unit], rests_on: Any) -> Lost:
        began.set()
        go_on.wait()
        return commit(shard, units, rests_on)

    streams.store._pipeline.measure_commits(lambda commit: slow_commit)
    committer = streams.store._pipeline._committers[streams.storage.shard_of("s")]
    append = partial(gevent.spawn, streams.store.append, append_request())
    writers = []
    if moment == "while it commits":
        writers = [append(), append()]
        began.wait()
        writers.append(append())
        gevent.sleep(0)
    with caplog.at_level(logging.CRITICAL):
        committer._greenlet.kill()
    gevent.joinall(writers)
    refusals = [OutcomeUnknown, OutcomeUnknown, Unavailable]
    assert [type(writer.exception) for writer in writers] == refusals[: len(writers)]
    assert "refuses all further writes" in caplog.text
    assert streams.store.failed
    with pytest.raises(Unavailable):
        streams.append()
    assert streams.read() == b"abc"
    streams.store.close()


def test_a_request_that_cannot_be_decided_is_an_error_of_its_own(
    streams: Streams, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A mistake in our own code must not take those in the same batch with it."""
    streams.create()
    body = b"poison"

    def mistaken(found: Any, request: Any, *rest: Any) -> Any:
        if getattr(request, "body", b"") == body:
            raise ZeroDivisionError
        return decide(found, request, *rest)

    monkeypatch.setattr("durable_streams.streams.batch.decide", mistaken)
    monkeypatch.setattr("durable_streams.streams.pipeline.decide", mistaken)

    def append(sent: bytes) -> Any:
        try:
            return streams.store.append(append_request(body=sent))
        except ZeroDivisionError:
            return InternalError("as the web floor makes of it")

    outcomes = all_at_once(*[partial(append, sent) for sent in (b"a", body, b"b")])
    assert [type(outcome) for outcome in outcomes] == [Appended, InternalError, Appended]
    assert streams.read() == b"ab"


def test_what_was_accepted_is_committed_before_the_storage_is_closed(streams: Streams) -> None:
    streams.create()
    outcomes = all_at_once(
        *[partial(streams.store.append, append_request(body=b"%d" % number)) for number in range(5)],
        partial(streams.store.close),
    )
    assert [isinstance(outcome, Appended) for outcome in outcomes[:5]] == [True] * 5
    if not streams.storage.commits_inline:
        with pytest.raises(Unavailable):
            streams.store.append(append_request())
    streams.open()
    if type(streams.storage).__module__.startswith("durable_streams.storage.files"):
        assert streams.read() == b"01234"


def test_a_writer_who_goes_away_is_written_for_all_the_same(streams: Streams) -> None:
    """Its client is gone, and its greenlet killed; what was accepted is still committed, whole."""
    streams.create()
    writer = gevent.spawn(streams.store.append, append_request(body=b"abc", producer=("p", 0, 0)))
    gevent.sleep(0)
    writer.kill()
    assert streams.append(body=b"abc", producer=("p", 0, 0)).duplicate
    assert streams.read() == b"abc"
