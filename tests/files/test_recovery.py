"""Opening: torn tails are cut, damage is refused and named, and what was there is there again."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest

from durable_streams.protocol.errors import StreamDamaged
from durable_streams.protocol.requests import Remove
from durable_streams.storage.files import DirectoryDamaged, FileStorage
from durable_streams.storage.files.records import (
    BATCH_HEADER_BYTES,
    BEGINS,
    GOES,
    JOURNAL_HEADER_BYTES,
    MOVES,
    JournalHeader,
    encode_batch,
    encode_values,
)
from tests.disk.recording import FaultyDisk, HastyDisk
from tests.engines.driving import (
    append,
    contents,
    copy_of,
    create,
    files_of,
    flip,
    read_all,
)
from tests.files.driving import BY_HAND, SMALL, commit, opened


def journal_of(data_dir: Path) -> Path:
    """The newest."""
    return max((data_dir / "journal").iterdir())


def run_of_four_batches(tmp_path: Path, durable: bool) -> tuple[Path, list[int]]:
    """A directory as a crash leaves it, and where each batch in its journal ends."""
    data_dir = tmp_path / "running"
    with opened(data_dir, durable) as storage:
        ends = [JOURNAL_HEADER_BYTES]
        for requests in (
            [create("a", b"one ")],
            [append("a", b"two "), create("b")],
            [append("a", b"three")],
            [Remove("b")],
        ):
            commit(storage, *requests)
            ends.append(journal_of(data_dir).stat().st_size)
        return copy_of(data_dir, tmp_path / "crashed"), ends


@pytest.mark.parametrize(
    "durable",
    [pytest.param(True, id="file-durable"), pytest.param(False, id="file-fast", marks=pytest.mark.long)],
)
def test_a_journal_cut_at_any_byte_holds_the_batches_that_are_whole(tmp_path: Path, durable: bool) -> None:
    crashed, ends = run_of_four_batches(tmp_path, durable)
    whole = [
        ({}),
        ({"a": b"one "}),
        ({"a": b"one two ", "b": b""}),
        ({"a": b"one two three", "b": b""}),
        ({"a": b"one two three"}),
    ]
    for size in range(ends[-1] + 1):
        torn = copy_of(crashed, tmp_path / f"torn-{size}")
        with journal_of(torn).open("r+b") as file:
            file.truncate(size)
        with opened(torn, durable) as storage:
            expected = whole[sum(end <= size for end in ends[1:])]
            assert {name: held for name, (_, held) in contents(storage).items()} == expected
            commit(storage, create("later", b"goes on"))
        with opened(torn, durable) as storage:
            assert {name: held for name, (_, held) in contents(storage).items()} == {
                **expected,
                "later": b"goes on",
            }


def test_cutting_a_torn_tail_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    crashed, ends = run_of_four_batches(tmp_path, durable=True)
    with journal_of(crashed).open("r+b") as file:
        file.truncate(ends[-1] - 3)
    with caplog.at_level(logging.WARNING), opened(crashed):
        pass
    torn = ends[-1] - 3 - ends[-2]
    assert f"ends at byte {ends[-2]}, after batch 3: cut off {torn} bytes" in caplog.text


def test_a_changed_byte_before_the_last_batch_is_refused_with_file_and_position(tmp_path: Path) -> None:
    crashed, ends = run_of_four_batches(tmp_path, durable=True)
    journal = journal_of(crashed)
    for position in range(JOURNAL_HEADER_BYTES, ends[-2]):
        flip(journal, position)
        with pytest.raises(DirectoryDamaged) as refused, opened(crashed):
            pass
        assert refused.value.path == str(journal)
        assert refused.value.position == max(end for end in ends if end <= position)
        flip(journal, position)
    with opened(crashed) as storage:
        assert read_all(storage, "a") == b"one two three"


def test_a_changed_byte_in_the_header_of_a_journal_is_refused(tmp_path: Path) -> None:
    crashed, _ = run_of_four_batches(tmp_path, durable=True)
    for position in range(JOURNAL_HEADER_BYTES):
        flip(journal_of(crashed), position)
        with pytest.raises(DirectoryDamaged, match="damaged at byte 0"), opened(crashed):
            pass
        flip(journal_of(crashed), position)


def test_the_fast_mode_refuses_damage_in_what_was_synced_and_cuts_what_was_not(tmp_path: Path) -> None:
    data_dir = tmp_path / "running"
    with opened(data_dir, durable=False) as storage:
        commit(storage, create("a", b"synced"))
        storage._background.sync_journal()
        synced = journal_of(data_dir).stat().st_size
        for body in (b" 1", b" 2", b" 3"):
            commit(storage, append("a", body))
        crashed = copy_of(data_dir, tmp_path / "crashed")
    flip(journal_of(crashed), JOURNAL_HEADER_BYTES + BATCH_HEADER_BYTES)
    with pytest.raises(DirectoryDamaged), opened(crashed, durable=False):
        pass
    flip(journal_of(crashed), JOURNAL_HEADER_BYTES + BATCH_HEADER_BYTES)
    flip(journal_of(crashed), synced + BATCH_HEADER_BYTES)
    with opened(crashed, durable=False) as storage:
        assert read_all(storage, "a") == b"synced"


def test_the_fast_mode_refuses_damage_in_all_that_a_sync_has_covered(tmp_path: Path) -> None:
    """Nothing is written after it but the mark, which is not synced itself."""
    data_dir = tmp_path / "running"
    with opened(data_dir, durable=False) as storage:
        for requests in (
            [create("a", b"one ")],
            [append("a", b"two "), create("b")],
            [append("a", b"three")],
        ):
            commit(storage, *requests)
        covered = journal_of(data_dir).stat().st_size
        storage._background.sync_journal()
        expected = contents(storage)
        crashed = copy_of(data_dir, tmp_path / "crashed")
    journal = journal_of(crashed)
    for position in range(JOURNAL_HEADER_BYTES, covered):
        flip(journal, position)
        with pytest.raises(DirectoryDamaged), opened(crashed, durable=False):
            pass
        flip(journal, position)
    for size in range(covered, journal.stat().st_size):
        torn = copy_of(crashed, tmp_path / f"torn-{size}")
        with journal_of(torn).open("r+b") as file:
            file.truncate(size)
        with opened(torn, durable=False) as storage:
            assert contents(storage) == expected


def test_a_journal_that_rests_is_marked_once(tmp_path: Path) -> None:
    with opened(tmp_path / "data", durable=False) as storage:
        storage._background.sync_journal()
        assert journal_of(tmp_path / "data").stat().st_size == JOURNAL_HEADER_BYTES
        sizes = []
        for body in (b"1", b"2"):
            commit(storage, create(f"stream {body!r}", body))
            for _ in range(5):
                storage._background.sync_journal()
                sizes.append(journal_of(tmp_path / "data").stat().st_size)
        assert len(set(sizes)) == 2
        assert storage._journal.synced == storage._journal.seq
    with opened(tmp_path / "durable", durable=True) as storage:
        commit(storage, create("a", b"1"))
        size = journal_of(tmp_path / "durable").stat().st_size
        storage._background.sync_journal()
        assert journal_of(tmp_path / "durable").stat().st_size == size


def test_payload_that_looks_like_a_batch_is_no_evidence(tmp_path: Path) -> None:
    """An attacker who could forge a later batch inside of a torn one would keep the server from starting."""
    forged = b"".join(bytes(part) for part in encode_batch(b"mark", 1000, 999, b"\x90", []))
    data_dir = tmp_path / "running"
    with opened(data_dir) as storage:
        commit(storage, create("a", b"kept"))
        commit(storage, append("a", forged * 50))
        crashed = copy_of(data_dir, tmp_path / "crashed")
    journal = journal_of(crashed)
    with journal.open("r+b") as file:
        header = JournalHeader.decode(file.read(JOURNAL_HEADER_BYTES))
        assert header is not None
        assert header.marker != b"mark"
        file.truncate(journal.stat().st_size - 1)
    with opened(crashed) as storage:
        assert read_all(storage, "a") == b"kept"


@pytest.mark.parametrize("size", [0, 10, JOURNAL_HEADER_BYTES - 1])
def test_a_journal_that_was_just_being_made_is_made_anew(tmp_path: Path, size: int) -> None:
    crashed, _ = run_of_four_batches(tmp_path, durable=True)
    (crashed / "journal" / "0000000002.log").write_bytes(bytes(size))
    for expected in (b"one two three", b"one two three!"):
        with opened(crashed) as storage:
            assert read_all(storage, "a") == expected
            commit(storage, append("a", b"!"))
            storage.checkpoint()


@pytest.mark.parametrize(
    "change",
    [
        (MOVES, 99, 5, 0.0, 0),
        (MOVES, 1, 99, 0.0, 4),
        (GOES, 99),
        (BEGINS, 99, ["another version"], 0),
        (MOVES,),
    ],
    ids=["unknown stream", "hole", "unknown stream goes", "unknown row", "too short"],
)
def test_a_batch_that_does_not_fit_what_was_before_is_refused(
    tmp_path: Path, change: tuple[object, ...]
) -> None:
    crashed, ends = run_of_four_batches(tmp_path, durable=True)
    journal = journal_of(crashed)
    header = JournalHeader.decode(journal.read_bytes()[:JOURNAL_HEADER_BYTES])
    assert header is not None
    with journal.open("ab") as file:
        file.write(
            b"".join(map(bytes, encode_batch(header.marker, 5, 4, encode_values([change]), [b"four"])))
        )
    with pytest.raises(DirectoryDamaged, match="batch 5 does not fit") as refused, opened(crashed):
        pass
    assert refused.value.position == ends[-1]


@pytest.mark.parametrize("folder", ["journal", "checkpoints"])
def test_a_missing_file_is_refused_by_name(tmp_path: Path, folder: str) -> None:
    data_dir = tmp_path / "running"
    with opened(data_dir) as storage:
        commit(storage, create("a", b"1"))
        storage.checkpoint()
        commit(storage, create("b", b"2"))
        storage.checkpoint()
        crashed = copy_of(data_dir, tmp_path / "crashed")
    lost = min((crashed / folder).iterdir())
    lost.unlink()
    with pytest.raises(DirectoryDamaged, match=r"is missing") as refused, opened(crashed):
        pass
    assert refused.value.path == str(lost)


def test_streams_without_journal_and_checkpoint_are_refused(tmp_path: Path) -> None:
    data_dir = tmp_path / "running"
    with opened(data_dir, tuning=SMALL) as storage:
        commit(storage, create("a", bytes(1000)))
    for folder in ("journal", "checkpoints"):
        for path in (data_dir / folder).iterdir():
            path.unlink()
    with pytest.raises(DirectoryDamaged, match="neither journal nor checkpoint"), opened(data_dir):
        pass


def test_every_changed_byte_of_a_checkpoint_is_refused_or_damages_one_stream(tmp_path: Path) -> None:
    data_dir = tmp_path / "running"
    with opened(data_dir) as storage:
        commit(storage, create("a", b"payload of a"), create("b", b"payload of b"))
        expected = contents(storage)
    (checkpoint,) = (data_dir / "checkpoints").iterdir()
    damaged, named = [], set()
    for position in range(checkpoint.stat().st_size):
        flip(checkpoint, position)
        storage = FileStorage(data_dir, True, tuning=BY_HAND)
        try:
            storage.open()
        except DirectoryDamaged as exc:
            named.add(exc.path)
        else:
            damaged.append(served_but_one(storage, expected))
            storage.close()
        flip(checkpoint, position)
    assert named == {str(checkpoint)}
    assert damaged == ["a"] * len(b"payload of a") + ["b"] * len(b"payload of b")


def served_but_one(storage: FileStorage, expected: dict[str, tuple[object, bytes]]) -> str:
    """The name of the one stream that is not served; all others are as expected."""
    refused = []
    for name, (_, held) in expected.items():
        try:
            assert read_all(storage, name) == held
        except StreamDamaged:
            refused.append(name)
    (name,) = refused
    return name


class CountingDisk(HastyDisk):
    """Knows how many files are open."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def open(self, path: str, *, write: bool = False) -> int:
        fd = super().open(path, write=write)
        self.now += 1
        self.most = max(self.most, self.now)
        return fd

    def close(self, fd: int) -> None:
        super().close(fd)
        self.now -= 1


def test_journals_that_failing_checkpoints_have_left_are_read_one_after_the_other(tmp_path: Path) -> None:
    data_dir, disk = tmp_path / "running", FaultyDisk(set(), 0, errno.ENOSPC, for_good=True)
    with opened(data_dir, disk=disk) as storage:
        commit(storage, create("a"))
        disk.kinds = {"rename"}
        for number in range(30):
            commit(storage, append("a", b"%02d" % number))
            with pytest.raises(OSError, match="No space left"):
                storage.checkpoint()
        crashed = copy_of(data_dir, tmp_path / "crashed")
    counting = CountingDisk()
    with opened(crashed, disk=counting) as storage:
        assert len(list((crashed / "journal").iterdir())) == 31
        assert counting.most <= 3
        assert read_all(storage, "a") == b"".join(b"%02d" % number for number in range(30))


def test_opening_an_opened_directory_again_changes_nothing(tmp_path: Path) -> None:
    crashed, ends = run_of_four_batches(tmp_path, durable=True)
    with journal_of(crashed).open("r+b") as file:
        file.truncate(ends[-1] - 1)
    with opened(crashed):
        before = files_of(copy_of(crashed, tmp_path / "once"))
    for number in range(3):
        again = copy_of(tmp_path / "once", tmp_path / f"again-{number}")
        with opened(again):
            assert files_of(copy_of(again, tmp_path / f"open-{number}")) == before


def test_one_mode_opens_what_the_other_has_written(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    for durable in (True, False, True):
        with opened(data_dir, durable) as storage:
            commit(storage, create("a") if storage.known("a") is None else append("a", b"more "))
    with opened(data_dir, False) as storage:
        assert read_all(storage, "a") == b"more more "


def test_files_that_belong_to_no_stream_go_and_all_others_stay(tmp_path: Path) -> None:
    data_dir = tmp_path / "running"
    with opened(data_dir, tuning=SMALL) as storage:
        commit(storage, create("stays", bytes(1000)), create("goes", bytes(1000)))
        storage.checkpoint()
        crashed = copy_of(data_dir, tmp_path / "crashed")
    orphan = crashed / "streams" / "00" / f"{0:016x}"
    orphan.parent.mkdir()
    orphan.write_bytes(b"remains")
    foreign = crashed / "streams" / "00" / "not a number"
    foreign.write_bytes(b"somebody's")
    with opened(crashed, tuning=SMALL) as storage:
        storage._background.tidy()
        assert not orphan.exists()
        assert foreign.exists()
        assert contents(storage)["stays"][1] == bytes(1000)
