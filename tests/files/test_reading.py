"""Reads: right from every location of payload, checked every time, and never in anybody's way."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from random import Random
from threading import Event
from time import monotonic

import gevent
import pytest

from durable_streams.protocol.errors import StreamDamaged, StreamNotFound
from durable_streams.protocol.requests import Remove
from durable_streams.storage.files.layout import Layout
from durable_streams.storage.files.segments import BLOCK_BYTES, Extent, file_position, with_checksums
from tests.disk.recording import HastyDisk
from tests.engines.driving import append, create, flip, read_all
from tests.files.driving import BY_HAND, SMALL, commit, opened

DEADLINE_S = 60


def test_any_part_of_an_own_file_is_what_was_written_whatever_the_blocks(tmp_path: Path) -> None:
    seed = Random().randrange(10**9)
    print(f"seed {seed}")
    random = Random(seed)
    expected = b""
    with opened(tmp_path / "data", tuning=SMALL) as storage:
        commit(storage, create("a"))
        sizes = [BLOCK_BYTES - 700, 700, 1, 2 * BLOCK_BYTES - 1, 1, 3 * BLOCK_BYTES, 650, 5]
        for size in sizes:
            data = random.randbytes(size)
            commit(storage, append("a", data))
            expected += data
            state = storage.known("a")
            assert state is not None
            for _ in range(60):
                start, stop = sorted(random.choices(range(state.tail + 1), k=2))
                assert storage.read(state, start, stop) == expected[start:stop]
            assert storage.read(state, state.tail, state.tail) == b""
    with opened(tmp_path / "data", tuning=SMALL) as storage:
        assert read_all(storage, "a") == expected


def test_the_layout_of_an_own_file_is_the_documented_one() -> None:
    data = bytes(range(256)) * 256
    parts, checksum = with_checksums(data, 0, 0)
    stored = b"".join(map(bytes, parts))
    assert len(stored) == file_position(len(data)) == len(data) + 8
    assert checksum == 0
    assert Extent(5, len(data) - 5, len(data), 0).payload(stored) == data[5:-5]


def test_a_changed_byte_is_never_served_and_concerns_its_block_alone(tmp_path: Path) -> None:
    data = Random(1).randbytes(4 * BLOCK_BYTES + 1000)
    with opened(tmp_path / "data", tuning=SMALL) as storage:
        commit(storage, create("a", data), create("b", data))
        storage.checkpoint()
        state = storage.known("a")
        assert state is not None
        path = Path(Layout(tmp_path / "data").stream(1))
        for position in (0, BLOCK_BYTES - 1, BLOCK_BYTES, 4 * BLOCK_BYTES + 999):
            block = position // BLOCK_BYTES * BLOCK_BYTES
            flip(path, file_position(position))
            with pytest.raises(StreamDamaged):
                storage.read(state, position, position + 1)
            with pytest.raises(StreamDamaged):
                storage.read(state, 0, state.tail)
            assert storage.read(state, 0, block) == data[:block]
            assert (
                storage.read(state, block + BLOCK_BYTES, state.tail) == data[block + BLOCK_BYTES :]
                or block == 4 * BLOCK_BYTES
            )
            assert read_all(storage, "b") == data
            flip(path, file_position(position))
        flip(path, BLOCK_BYTES)
        with pytest.raises(StreamDamaged):
            storage.read(state, 0, 1)


def test_a_shortened_or_missing_file_is_damage_of_that_stream(tmp_path: Path) -> None:
    with opened(tmp_path / "data", tuning=SMALL) as storage:
        commit(storage, create("a", bytes(1000)), create("b", bytes(1000)))
    path = Path(Layout(tmp_path / "data").stream(1))
    for spoil in (lambda: path.write_bytes(path.read_bytes()[:-1]), path.unlink):
        spoil()
        with opened(tmp_path / "data", tuning=SMALL) as storage:
            with pytest.raises(StreamDamaged):
                read_all(storage, "a")
            assert read_all(storage, "b") == bytes(1000)


def test_a_stream_that_has_gone_or_was_made_anew_is_not_found(tmp_path: Path) -> None:
    with opened(tmp_path / "data", tuning=SMALL) as storage:
        commit(storage, create("a", b"old"))
        old = storage.known("a")
        assert old is not None
        commit(storage, Remove("a"))
        with pytest.raises(StreamNotFound):
            storage.read(old, 0, 3)
        commit(storage, create("a", b"new", uid="second of a"))
        with pytest.raises(StreamNotFound):
            storage.read(old, 0, 3)
        assert read_all(storage, "a") == b"new"


class SlowDisk(HastyDisk):
    """Has nothing in memory; the first call for ``slow_path`` waits until it is told to go on."""

    def __init__(self) -> None:
        self.slow_path = ""
        self.waits = Event()
        self.goes_on = Event()
        self.opened: list[str] = []
        self.closed: list[str] = []
        self._paths: dict[int, str] = {}

    def open(self, path: str, *, write: bool = False) -> int:
        if path == self.slow_path:
            self.slow_path = ""
            self.waits.set()
            assert self.goes_on.wait(DEADLINE_S)
        fd = super().open(path, write=write)
        self._paths[fd] = path
        self.opened.append(path)
        return fd

    def close(self, fd: int) -> None:
        self.closed.append(self._paths[fd])
        super().close(fd)

    def read_cached(self, fd: int, buffer: memoryview, position: int) -> bool:
        return False


def test_a_read_that_waits_for_the_disk_keeps_nobody_else_waiting(tmp_path: Path) -> None:
    disk = SlowDisk()
    with opened(tmp_path / "data", disk=disk, tuning=SMALL) as storage:
        commit(storage, create("a", bytes(1000)), create("b"))
        disk.slow_path = Layout(tmp_path / "data").stream(1)
        reading = gevent.spawn(read_all, storage, "a")
        while not disk.waits.is_set():
            gevent.sleep(0)
        commit(storage, append("b", b"meanwhile"))
        assert read_all(storage, "b") == b"meanwhile"
        assert not reading.ready()
        disk.goes_on.set()
        assert reading.get(timeout=DEADLINE_S) == bytes(1000)


def test_a_reader_that_is_killed_leaves_no_file_open(tmp_path: Path) -> None:
    disk = SlowDisk()
    with opened(tmp_path / "data", disk=disk, tuning=replace(SMALL, files_kept_open=0)) as storage:
        commit(storage, create("a", bytes(1000)))
        path = disk.slow_path = Layout(tmp_path / "data").stream(1)
        reading = gevent.spawn(read_all, storage, "a")
        while not disk.waits.is_set():
            gevent.sleep(0)
        reading.kill()
        disk.goes_on.set()
        until = monotonic() + DEADLINE_S
        while not disk.opened.count(path) == disk.closed.count(path) > 1:
            assert monotonic() < until, "the file stays open"
            gevent.sleep(0.001)
        assert read_all(storage, "a") == bytes(1000)


def test_a_read_follows_payload_that_a_checkpoint_has_moved_meanwhile(tmp_path: Path) -> None:
    disk, data_dir = SlowDisk(), tmp_path / "data"
    with opened(data_dir, disk=disk, tuning=replace(SMALL, checkpoints_max=1)) as storage:
        commit(storage, create("a", b"packed"))
        storage.checkpoint()
        disk.slow_path = Layout(data_dir).checkpoint(1)
        reading = gevent.spawn(read_all, storage, "a")
        while not disk.waits.is_set():
            gevent.sleep(0)
        commit(storage, append("a", b" and more"))
        storage.checkpoint()
        assert not Path(Layout(data_dir).checkpoint(1)).exists()
        disk.goes_on.set()
        assert reading.get(timeout=DEADLINE_S) == b"packed"


def test_a_read_of_a_stream_that_goes_meanwhile_is_not_found(tmp_path: Path) -> None:
    disk, data_dir = SlowDisk(), tmp_path / "data"
    with opened(data_dir, disk=disk, tuning=SMALL) as storage:
        commit(storage, create("a", bytes(1000)))
        disk.slow_path = Layout(data_dir).stream(1)
        reading = gevent.spawn(read_all, storage, "a")
        while not disk.waits.is_set():
            gevent.sleep(0)
        commit(storage, Remove("a"))
        storage.checkpoint()
        disk.goes_on.set()
        reading.join(timeout=DEADLINE_S)
        assert isinstance(reading.exception, StreamNotFound)


def test_reading_much_keeps_nothing(tmp_path: Path) -> None:
    size, page = 32 << 20, 1 << 20
    with opened(tmp_path / "data") as storage:
        commit(storage, create("a"))
        for _ in range(size // page):
            commit(storage, append("a", bytes(page)))
        state = storage.known("a")
        assert state is not None
        storage.read(state, 0, page)
        tracemalloc.start()
        for start in range(0, size, page):
            assert len(storage.read(state, start, start + page)) == page
        now, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert now < 100_000
        assert peak < 3 * page


def test_an_idle_stream_costs_less_than_a_kilobyte_of_memory(tmp_path: Path) -> None:
    count = 5000
    with opened(tmp_path / "data") as storage:
        for number in range(0, count, 100):
            commit(storage, *(create(f"tenant/{number}/{i:08d}", bytes(100)) for i in range(100)))
    tracemalloc.start()
    with opened(tmp_path / "data", tuning=BY_HAND) as storage:
        now, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(storage.names("", "", 2 * count)) == count
        # The buffer for reads is there once, whatever the number of streams.
        assert (now - (2 << 20)) / count < 1000
