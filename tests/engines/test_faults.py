"""Every call to the disk fails once, in a run that uses them all: nothing is half done, nothing promised is lost."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from durable_streams.protocol.errors import ProtocolError, StorageFull, StreamDamaged, Unavailable
from durable_streams.protocol.requests import Remove, Request
from durable_streams.storage.contract import Change
from tests.disk.recording import FaultyDisk
from tests.engines.driving import Contents, Model, append, contents, copy_of, create, decide, read_all, record
from tests.engines.engine import Engine

CALLS = {"open", "read", "write", "truncate", "sync", "sync_dir", "rename", "unlink"}


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What is logged of thousands of faults helps nobody."""
    caplog.set_level(logging.CRITICAL + 1)


def batches(engine: Engine) -> Iterator[Sequence[Request] | str]:
    """What is committed, one batch after the other, and what is done between them."""
    yield [create("small", b"1"), create("large", bytes(engine.large)), create("gone", bytes(engine.huge))]
    yield [append("small", b"2"), append("large", bytes(engine.huge))]
    yield "checkpoint"
    yield [Remove("gone"), append("small", b"3" * engine.growth), create("tiny", b"t")]
    yield [append("large", b"more"), append("tiny", b"u")]
    yield "pack"
    yield [append("small", b"4"), append("large", bytes(engine.growth))]


class Life:
    """One run of ``batches`` on a disk that fails, up to the end of the storage."""

    def __init__(self, engine: Engine, data_dir: Path, disk: FaultyDisk) -> None:
        self.model = Model()
        self.in_doubt: dict[int, Model] = {}
        """By shard: what is there if the batch whose outcome is unknown was kept."""
        self.refused: list[type[Exception]] = []
        self._engine = engine
        self._disk = disk
        self._storage = engine.build(data_dir, disk)

    def run(self) -> None:
        try:
            self._storage.open()
        except OSError as exc:
            self.refused.append(type(exc))
            return
        for batch in batches(self._engine):
            if isinstance(batch, str):
                self._maintain(batch)
            else:
                self._commit(batch)
            self._check()
        self._storage.close()

    def _check(self) -> None:
        """Readers are served what has been answered; that reads may fail too is another test."""
        kinds, self._disk.kinds = self._disk.kinds, set()
        assert contents(self._storage) == self.model.contents
        self._disk.kinds = kinds

    def _maintain(self, what: str) -> None:
        work = self._engine.pack if what == "pack" else self._engine.checkpoint
        try:
            work(self._storage)
        except (OSError, RuntimeError) as exc:
            self.refused.append(type(exc))

    def _commit(self, requests: Sequence[Request]) -> None:
        # Streams that an earlier fault has kept from being made are not there to be appended to.
        for shard, changes in self._engine.parts(self._storage, decide(self._storage, requests)):
            self._commit_part(shard, changes)

    def _commit_part(self, shard: int, changes: list[Change]) -> None:
        after = Model()
        after.contents = self.model.copy()
        after.apply(changes)
        try:
            lost = record(self._storage, changes, shard)
        except ProtocolError as exc:
            self.refused.append(type(exc))
        except (OSError, RuntimeError) as exc:
            self.refused.append(type(exc))
            assert self._storage.failed
            if shard not in self.in_doubt and isinstance(exc, OSError):
                self.in_doubt[shard] = after
        else:
            assert shard not in self.in_doubt, "after an unknown outcome nothing must be accepted"
            if lost:
                self.refused.append(StreamDamaged)
                self._engine.forget_damage(self._storage)
            self.model.apply([change for change in changes if change.name not in lost])

    def check_reopened(self, data_dir: Path) -> None:
        """On a disk that works again."""
        with self._engine.opened(data_dir) as storage:
            found = contents(storage)
            for shard in range(storage.shards):
                models = [self.model, *([self.in_doubt[shard]] if shard in self.in_doubt else [])]
                possible = [self._in_shard(model.contents, shard) for model in models]
                assert self._in_shard(found, shard) in possible
            self._engine.commit(storage, create("later", b"works"))
        with self._engine.opened(data_dir) as storage:
            assert read_all(storage, "later") == b"works"

    def _in_shard(self, found: Contents, shard: int) -> Contents:
        return {name: held for name, held in found.items() if self._storage.shard_of(name) == shard}


def calls_of(engine: Engine, tmp_path: Path) -> int:
    disk = FaultyDisk(CALLS)
    life = Life(engine, tmp_path / "without fault", disk)
    life.run()
    assert not life.refused
    return disk.calls


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "from then on"])
def test_a_fault_at_any_call_loses_nothing_promised(
    engine: Engine, tmp_path: Path, error: int, for_good: bool
) -> None:
    calls = calls_of(engine, tmp_path)
    assert calls > 60
    for number in range(calls):
        disk = FaultyDisk(CALLS, number, error, for_good=for_good)
        life = Life(engine, tmp_path / str(number), disk)
        try:
            life.run()
            life.check_reopened(tmp_path / str(number))
        except BaseException:
            print(f"fault at call {number} of {calls}, a {disk.failed}; refused: {life.refused}")
            raise


def failing(error: int = errno.EIO) -> FaultyDisk:
    """A disk on which all calls fail whose kinds are set."""
    return FaultyDisk(set(), 0, error, for_good=True)


def test_a_full_disk_refuses_what_has_no_room_and_serves_again_when_there_is_some(
    engine: Engine, tmp_path: Path
) -> None:
    disk = failing(errno.ENOSPC)
    with engine.opened(tmp_path / "data", disk) as storage:
        engine.commit(storage, create("a", b"before"))
        for body in (b"no room", bytes(engine.huge), bytes(engine.large)):
            disk.kinds = {"write"}
            with pytest.raises(StorageFull):
                engine.commit(storage, append("a", body))
            with pytest.raises(OSError, match="No space left"):
                engine.checkpoint(storage)
            assert not storage.failed
            assert read_all(storage, "a") == b"before"
        disk.kinds = set()
        engine.commit(storage, append("a", b" and after"))
        engine.checkpoint(storage)
        assert read_all(storage, "a") == b"before and after"
    with engine.opened(tmp_path / "data") as storage:
        assert read_all(storage, "a") == b"before and after"


def test_a_write_that_fails_otherwise_keeps_nothing_and_goes_on(engine: Engine, tmp_path: Path) -> None:
    disk = FaultyDisk(set(), 0)
    with engine.opened(tmp_path / "data", disk) as storage:
        engine.commit(storage, create("a", b"before"))
        disk.kinds = {"write"}
        with pytest.raises(Unavailable):
            engine.commit(storage, append("a", b"refused"))
        engine.commit(storage, append("a", b" and after"))
        assert read_all(storage, "a") == b"before and after"


def test_a_sync_that_fails_stops_all_writing_of_its_shard_and_leaves_reading(
    engine: Engine, tmp_path: Path
) -> None:
    disk = FaultyDisk(set(), 0)
    with engine.opened(tmp_path / "data", disk) as storage:
        engine.commit(storage, create("a", b"before"))
        disk.kinds = {"sync"}
        with pytest.raises(OSError, match="Input/output error"):
            engine.commit_synced(storage, append("a", b" unknown"))
        disk.kinds = set()
        assert storage.failed
        with pytest.raises((RuntimeError, Unavailable)):
            engine.commit(storage, append("a", b" refused"))
        assert read_all(storage, "a") == (b"before" if engine.is_durable else b"before unknown")


def test_a_read_that_fails_concerns_that_read_alone(engine: Engine, tmp_path: Path) -> None:
    disk = FaultyDisk(set(), 0)
    with engine.opened(tmp_path / "data", disk) as storage:
        engine.commit(storage, create("small", b"s"), create("large", bytes(3 * engine.huge)))
        engine.checkpoint(storage)
        assert read_all(storage, "small") == b"s"
        disk.calls, disk.kinds = 0, {"read", "read_cached"}
        with pytest.raises(StreamDamaged):
            read_all(storage, "large")
        disk.kinds = set()
        assert read_all(storage, "large") == bytes(3 * engine.huge)


def torn(engine: Engine, tmp_path: Path) -> tuple[Path, Contents]:
    """A directory as a crash leaves it, with a torn end, and what it holds."""
    with engine.opened(tmp_path / "running") as storage:
        engine.commit(storage, create("small", b"s"), create("large", bytes(engine.huge)))
        engine.checkpoint(storage)
        engine.commit(storage, append("small", b"t"))
        crashed = copy_of(tmp_path / "running", tmp_path / "crashed")
        expected = contents(storage)
    with engine.torn_file(crashed).open("ab") as file:
        file.write(b"torn")
    return crashed, expected


def test_every_call_of_an_opening_may_fail_and_the_next_opening_succeeds(
    engine: Engine, tmp_path: Path
) -> None:
    crashed, expected = torn(engine, tmp_path)
    number, failed = 0, True
    while failed:
        data_dir = copy_of(crashed, tmp_path / str(number))
        disk = FaultyDisk(CALLS, number)
        storage = engine.build(data_dir, disk)
        try:
            storage.open()
        except OSError:
            pass
        else:
            storage.close()
        failed, number = disk.failed is not None, number + 1
        assert engine.contents(data_dir) == expected
    assert number > 10


def test_a_torn_end_is_cut_on_a_disk_that_is_full(engine: Engine, tmp_path: Path) -> None:
    crashed, expected = torn(engine, tmp_path)
    disk = failing(errno.ENOSPC)
    disk.kinds = {"write"}
    with engine.opened(crashed, disk) as storage:
        assert contents(storage) == expected
        with pytest.raises(StorageFull):
            engine.commit(storage, append("small", b" and more"))
        disk.kinds = set()
        engine.commit(storage, append("small", b" and more"))
    with engine.opened(crashed) as storage:
        assert read_all(storage, "small") == b"st and more"
