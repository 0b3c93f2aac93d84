"""A full disk: what is refused, what goes on, and that deleting enough always makes appends work again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from durable_streams.protocol.errors import StorageFull
from durable_streams.protocol.requests import Append, Remove, Request
from durable_streams.storage.on_disk.directory import NoRoom
from durable_streams.storage.on_disk.room import RESERVE_NAME, RoomLimits
from tests.disk.recording import CrowdedDisk
from tests.engines.driving import Contents, append, contents, copy_of, create
from tests.engines.engine import Engine

CAPACITY = 3_000_000
RESERVE = 300_000
REFUSALS = 12
"""The disk is full after so many."""


NEW = ("new", "newer", "newest", "newest of all")


class Scene:
    """A storage on a small disk, which may be killed, and what must be found in it."""

    def __init__(self, engine: Engine, folder: Path, random: Random) -> None:
        self.disk = CrowdedDisk(folder / "0", CAPACITY)
        self.room = RoomLimits(random.choice((0, 50_000)), RESERVE)
        self.storage: Any = None
        self.expected: Contents = {}
        self._engine, self._folder, self._random = engine, folder, random
        self._lives = 0

    def open(self) -> None:
        self.storage = self._engine.build(self.disk.root, self.disk, self.room)
        self.storage.open()
        assert contents(self.storage) == self.expected

    def restart(self) -> None:
        """As after a stop, or as after a kill; on the disk that is full."""
        left = self.disk.root
        is_killed = self._random.random() < 0.5
        self._lives += 1
        if is_killed:
            left = copy_of(left, self._folder / f"{self._lives}")
        self.storage.close()
        self.disk.root = left
        self.open()

    def send(self, *requests: Request) -> bool:
        """Whether they were taken."""
        try:
            self._engine.commit(self.storage, *requests)
        except StorageFull:
            assert contents(self.storage) == self.expected
            return False
        self.expected = contents(self.storage)
        return True

    def fill(self) -> None:
        """Until the disk is full, with everything between that a server may do."""
        random, refused, number = self._random, 0, 0
        while refused < REFUSALS:
            number += 1
            assert number < 2000, "the disk does not become full"
            refused += not self.send(self._request(number))
            if random.random() < 0.1:
                with suppress(OSError):
                    random.choice((self._engine.checkpoint, self._engine.pack))(self.storage)
            if random.random() < 0.02:
                self.restart()

    def _request(self, number: int) -> Request:
        random = self._random
        body = random.randbytes(random.choice((100, 3000, 30_000, 150_000)))
        names = list(self.expected)
        if not names or (len(names) < 25 and random.random() < 0.4):
            return create(f"stream {number}", body)
        if random.random() < 0.05:
            return Remove(random.choice(names))
        return append(random.choice(names), body)

    def takes_appends(self) -> bool:
        """To streams of every shard."""
        for name in NEW:
            if name not in self.expected and not self.send(create(name)):
                return False
        return all(self.send(append(name, bytes(10_000))) for name in NEW for _ in range(3))

    def tidy(self) -> None:
        """What is done behind the requests."""
        self._engine.free_room(self.storage)
        assert contents(self.storage) == self.expected


@pytest.fixture
def scene(engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Scene]:
    caplog.set_level(logging.CRITICAL)
    seed = Random().randrange(10**9)
    print(f"seed {seed}")
    scene = Scene(engine, tmp_path, Random(seed))
    scene.open()
    yield scene
    scene.storage.close()


@pytest.mark.parametrize(
    "restarts", [pytest.param(False, id="goes on", marks=pytest.mark.long), pytest.param(True, id="restarts")]
)
def test_from_any_full_state_deleting_enough_makes_appends_work_again(
    scene: Scene, engine: Engine, restarts: bool
) -> None:
    for _ in range(3):
        scene.fill()
        if restarts:
            scene.restart()
        names = sorted(scene.expected)
        while not scene.takes_appends():
            assert names, f"everything has been deleted; {scene.disk.free_bytes('')} bytes are free"
            assert scene.send(Remove(names.pop())), "a delete was refused"
            scene.tidy()
        assert not scene.storage.is_full
        scene.restart()


def test_on_a_full_disk_streams_can_be_closed_and_deleted(scene: Scene) -> None:
    scene.fill()
    for name in sorted(scene.expected):
        assert scene.send(Append(name, "text/plain", b"", close=True)), "a close was refused"
    while not scene.storage.is_full and scene.send(create(f"last {len(scene.expected)}", bytes(2000))):
        pass
    for name in sorted(scene.expected):
        assert scene.send(Remove(name)), "a delete was refused"
    scene.tidy()
    assert scene.send(create("new", bytes(1000)))


def test_what_is_kept_free_is_kept_free(engine: Engine, tmp_path: Path) -> None:
    disk = CrowdedDisk(tmp_path, CAPACITY)
    with engine.opened(tmp_path / "data", disk, RoomLimits(1_000_000, RESERVE)) as storage:
        engine.commit(storage, create("s"))
        while not storage.is_full:
            with suppress(StorageFull):
                engine.commit(storage, append("s", bytes(10_000)))
        assert disk.free_bytes("") > 900_000
        disk.capacity += 1_000_000
        engine.commit(storage, append("s", bytes(10_000)))
        assert not storage.is_full


def test_a_change_is_told_in_one_line_and_nothing_else_of_a_full_disk(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = CrowdedDisk(tmp_path, CAPACITY)
    with engine.opened(tmp_path / "data", disk, RoomLimits(0, RESERVE)) as storage:
        engine.commit(storage, create("s"), create("t", bytes(200_000)))
        while not storage.is_full:
            with suppress(StorageFull):
                engine.commit(storage, append("s", bytes(30_000)))
        for _ in range(5):
            with pytest.raises(StorageFull):
                engine.commit(storage, append("s", bytes(1000)))
            engine.free_room(storage)
        told = [each.getMessage() for each in caplog.records if "room" in each.getMessage()]
        assert len([line for line in told if "writes are refused, but for deletes and closes" in line]) == 1
        disk.capacity *= 2
        engine.commit(storage, append("s", bytes(1000)))
        assert [each for each in caplog.records if "writes are taken" in each.getMessage()]
    assert not [each for each in caplog.records if each.exc_info]


def test_compacting_says_in_one_line_how_much_room_it_needs(engine: Engine, tmp_path: Path) -> None:
    disk = CrowdedDisk(tmp_path, 2_000_000)
    with engine.opened(tmp_path / "data", room=RoomLimits(0, RESERVE)) as storage:
        for number in range(50):
            engine.commit(storage, create(f"stream {number}", bytes(150)), create(f"{number}", bytes(30_000)))
        crashed = copy_of(tmp_path / "data", tmp_path / "crashed")
    disk.root, disk.capacity = crashed, 0
    (crashed.joinpath(engine.mode.mark).parent / RESERVE_NAME).unlink()
    maintenance = type(engine.maintenance)(disk)
    with pytest.raises(NoRoom, match=r"compacting .* needs about [\d,]+ bytes of room, and 0 are free"):
        maintenance.compact(crashed)
    assert engine.contents(crashed)["stream 7"][1] == bytes(150)
