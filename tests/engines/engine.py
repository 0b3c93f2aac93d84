"""How each engine is opened, changed and maintained, so that one test can be run on all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from durable_streams.protocol.requests import Request
from durable_streams.storage.contract import Change, Storage
from durable_streams.storage.modes import MODES, Mode
from durable_streams.storage.on_disk.disk import Disk, says_full
from durable_streams.storage.on_disk.maintenance import DirectoryMaintenance
from durable_streams.storage.on_disk.room import RoomLimits
from tests.acid import driving as acid
from tests.disk.recording import HastyDisk
from tests.engines.driving import Script, contents, decide, record
from tests.files import driving as files


class Engine(ABC):
    """One mode; its storages sync nothing unless told, and nothing runs behind the requests."""

    mode: Mode
    is_durable = True
    """What was answered survives a power cut."""
    large, huge, growth = 500, 700, 200
    """Lengths of bodies: with them, and bodies of a few bytes, payload is in every location that it can have."""
    versions = ("durable-streams files 1", "durable-streams files 2")
    """What the mark of the directory says, in part, and what that of a later version would."""

    def __init__(self, mode: str) -> None:
        self.mode = MODES[mode]
        assert self.mode.maintenance is not None
        kind: Any = type(self.mode.maintenance())
        self.maintenance: DirectoryMaintenance = kind(HastyDisk())

    @abstractmethod
    def build(
        self, data_dir: Path | str, disk: Disk | None = None, room: RoomLimits = files.NO_LIMITS
    ) -> Storage:
        """Not opened."""

    @abstractmethod
    def script(self, random: Random) -> Script:
        """Random requests with bodies for every location of payload."""

    @abstractmethod
    def checkpoint(self, storage: Any) -> None:
        """Do what bounds the next opening; raises OSError. ``file-fast``: what was answered is durable then."""

    @abstractmethod
    def pack(self, storage: Any) -> None:
        """Free what nobody needs, as the engine itself does it; raises OSError."""

    @abstractmethod
    def free_room(self, storage: Any) -> None:
        """What is done behind the requests while writes are refused, as far as there is room for it."""

    @abstractmethod
    def torn_file(self, data_dir: Path) -> Path:
        """The file whose end a crash can tear."""

    def parts(self, storage: Storage, changes: Sequence[Change]) -> list[tuple[int, list[Change]]]:
        """The changes that are committed together, with their shard."""
        return acid.by_shard(storage, changes)

    @contextmanager
    def opened(
        self, data_dir: Path | str, disk: Disk | None = None, room: RoomLimits = files.NO_LIMITS
    ) -> Iterator[Any]:
        storage = self.build(data_dir, disk, room)
        storage.open()
        try:
            yield storage
        finally:
            storage.close()

    def commit(self, storage: Storage, *requests: Request, now: float = 1000.0) -> Sequence[Change]:
        """Decide, and commit what belongs together as one."""
        changes = decide(storage, requests, now)
        for shard, part in self.parts(storage, changes):
            record(storage, part, shard)
        return changes

    def commit_synced(self, storage: Any, *requests: Request) -> None:
        """The same, and what is committed survives a power cut; raises OSError."""
        self.commit(storage, *requests)

    def write(self, data_dir: Path, *requests: Request) -> Any:
        """Commit ``requests``, one batch each, and return everything that is served then."""
        with self.opened(data_dir) as storage:
            for request in requests:
                self.commit(storage, request)
            return contents(storage)

    def contents(self, data_dir: Path) -> Any:
        """Everything that a server would serve from ``data_dir``."""
        with self.opened(data_dir) as storage:
            return contents(storage)

    @abstractmethod
    def forget_damage(self, storage: Any) -> None:
        """The time is over for which a stream that could not be read is left alone."""


def _where_there_is_room(work: Callable[[], None]) -> None:
    try:
        work()
    except OSError as exc:
        if not says_full(exc):
            raise


class FileEngine(Engine):
    def __init__(self, mode: str) -> None:
        super().__init__(mode)
        self.is_durable = mode == "file-durable"

    def build(
        self, data_dir: Path | str, disk: Disk | None = None, room: RoomLimits = files.NO_LIMITS
    ) -> Storage:
        return files.build(data_dir, self.is_durable, disk=disk or HastyDisk(), tuning=files.SMALL, room=room)

    def script(self, random: Random) -> Script:
        return Script(random)

    def checkpoint(self, storage: Any) -> None:
        storage.checkpoint()

    def pack(self, storage: Any) -> None:
        storage._background.sync_journal()
        storage.checkpoint()

    def commit_synced(self, storage: Any, *requests: Request) -> None:
        self.commit(storage, *requests)
        storage._background.sync_journal()

    def free_room(self, storage: Any) -> None:
        _where_there_is_room(storage._background.free_room)

    def forget_damage(self, storage: Any) -> None:
        """A stream that cannot be read is tried again every time."""

    def torn_file(self, data_dir: Path) -> Path:
        return max((data_dir / "journal").iterdir())


class AcidEngine(Engine):
    large, huge, growth = 5000, 70_000, 2000
    versions = ('"version": 1', '"version": 2')
    shards = 2

    def build(
        self, data_dir: Path | str, disk: Disk | None = None, room: RoomLimits = files.NO_LIMITS
    ) -> Storage:
        return acid.build(data_dir, self.shards, disk=disk or HastyDisk(), room=room)

    def script(self, random: Random) -> Script:
        return acid.script(random)

    def checkpoint(self, storage: Any) -> None:
        for shard in storage._background.shards:
            shard.save_index()

    def pack(self, storage: Any) -> None:
        acid.pack_all(storage)

    def free_room(self, storage: Any) -> None:
        for shard in storage._background.shards:
            _where_there_is_room(shard.free_room)

    def torn_file(self, data_dir: Path) -> Path:
        return acid.shard_file(data_dir)

    def forget_damage(self, storage: Any) -> None:
        for shard in storage._shards:
            shard._damaged.clear()


ENGINES: Sequence[Engine] = (FileEngine("file-fast"), FileEngine("file-durable"), AcidEngine("acid"))
