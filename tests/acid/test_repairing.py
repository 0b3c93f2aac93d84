"""The end of a shard's file after a crash: what may be cut is cut, and what must not be is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from ZODB.utils import p64

from durable_streams.storage.zodb import DirectoryDamaged
from durable_streams.storage.zodb.file_storage import ShardFileStorage
from tests.acid.driving import build, commit, opened, shard_file
from tests.disk.recording import HastyDisk
from tests.engines.driving import append, create, read_all

STATUS_AT = 16


def write(data_dir: Path, *, killed: bool = True) -> tuple[int, int]:
    """Three transactions, as a crash leaves them; where the last one begins and where it ends."""
    source = data_dir.with_name("source")
    with opened(source) as storage:
        commit(storage, create("s", b"one"), create("other", bytes(3000)))
        commit(storage, append("s", b" two"))
        begin = _size(storage._shards[0].storage)
        commit(storage, append("s", b" three"), append("other", bytes(range(256)) * 40))
        end = _size(storage._shards[0].storage)
        if not killed:
            storage.close()
        (data_dir / "acid").mkdir(parents=True)
        for path in (source / "acid").iterdir():
            if path.suffix in (".fs", ".json", ".index"):
                (data_dir / "acid" / path.name).write_bytes(path.read_bytes())
    return begin, end


def _size(storage: object) -> int:
    assert isinstance(storage, ShardFileStorage)
    return int(storage.getSize())


Spoil = Callable[[bytearray, int, int], bytes | bytearray]

TORN: dict[str, Spoil] = {
    "cut behind its header": lambda data, begin, end: data[: begin + 23],
    "cut within its header": lambda data, begin, end: data[: begin + 7],
    "cut in the middle": lambda data, begin, end: data[: (begin + end) // 2],
    "cut before the last byte": lambda data, begin, end: data[: end - 1],
    "not finished": lambda data, begin, end: data[: begin + STATUS_AT] + b"c" + data[begin + STATUS_AT + 1 :],
    "its header zeroed": lambda data, begin, end: data[:begin] + bytes(23) + data[begin + 23 :],
    "the first page zeroed": lambda data, begin, end: data[:begin] + bytes(4096) + data[begin + 4096 :],
    "a page in the middle zeroed": lambda data, begin, end: (
        data[: begin + 4000] + bytes(4096) + data[begin + 8096 :]
    ),
    "the last page zeroed": lambda data, begin, end: data[: end - 4096] + bytes(4096),
    "all of it zeroed": lambda data, begin, end: data[:begin] + bytes(end - begin),
    "only its last bytes there": lambda data, begin, end: (
        data[:begin] + bytes(end - begin - 8) + data[end - 8 :]
    ),
}
"""What a power cut can make of a transaction that was not durable: it must go, with everything else staying."""

WHOLE: dict[str, Spoil] = {
    "nothing": lambda data, begin, end: data,
    "64 KB of zeros behind it": lambda data, begin, end: data + bytes(65536),
    "7 bytes of garbage behind it": lambda data, begin, end: data + b"garbage",
    "half a copy of itself behind it": lambda data, begin, end: data + data[begin : (begin + end) // 2],
    "a copy of itself behind it": lambda data, begin, end: data + data[begin:end],
    "a window of noise behind it": lambda data, begin, end: data + Random(1).randbytes(1_500_000),
}
"""The last transaction is whole, and so it stays."""


def spoilt(tmp_path: Path, spoil: Spoil, *, killed: bool = True) -> Path:
    data_dir = tmp_path / "data"
    begin, end = write(data_dir, killed=killed)
    file = shard_file(data_dir)
    data = bytearray(file.read_bytes())
    assert len(data) == end
    file.write_bytes(spoil(data, begin, end))
    return data_dir


def check(data_dir: Path, expected: bytes) -> None:
    """Served, written on, served again; opening twice changes nothing."""
    with opened(data_dir) as storage:
        assert read_all(storage, "s") == expected
        assert read_all(storage, "other")[:3000] == bytes(3000)
    with opened(data_dir) as storage:
        assert read_all(storage, "s") == expected
        commit(storage, append("s", b" more"))
    with opened(data_dir) as storage:
        assert read_all(storage, "s") == expected + b" more"


@pytest.mark.parametrize("case", TORN)
def test_a_torn_transaction_is_cut(tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "durable_streams.storage")
    data_dir = spoilt(tmp_path, TORN[case])
    check(data_dir, b"one two")
    assert [record.message for record in caplog.records if "cut at byte" in record.message]
    assert shard_file(data_dir).with_suffix(".fs.cut").exists()


@pytest.mark.parametrize("case", WHOLE)
def test_what_lies_behind_the_last_whole_transaction_is_cut_alone(
    tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL")
    check(spoilt(tmp_path, WHOLE[case]), b"one two three")


@pytest.mark.parametrize("at", [0, 5, STATUS_AT, 23, 23 + 30, 23 + 60, -5])
def test_damage_before_a_whole_transaction_is_named_and_never_cut(tmp_path: Path, at: int) -> None:
    """A byte of the transaction before the last one."""
    data_dir = tmp_path / "data"
    source = tmp_path / "source"
    begin, _ = write(data_dir)
    with opened(source) as storage:
        commit(storage, append("s", b" four"))
    file = shard_file(data_dir)
    data = bytearray(shard_file(source).read_bytes())
    end = begin + int.from_bytes(data[begin + 8 : begin + 16]) + 8
    data[begin + at if at >= 0 else end + at] ^= 0x41
    file.write_bytes(data)
    with pytest.raises(DirectoryDamaged, match=f"damaged at byte {begin}") as caught:
        build(data_dir).open()
    assert str(file) in str(caught.value)
    assert "a whole transaction follows" in str(caught.value)
    assert file.read_bytes() == data


def test_only_what_the_index_does_not_know_is_read(tmp_path: Path) -> None:
    """So opening does not depend on the bytes stored; damage elsewhere is found when it is read, or by verify."""
    data_dir = spoilt(tmp_path, lambda data, begin, end: data, killed=False)
    file = shard_file(data_dir)
    data = bytearray(file.read_bytes())
    data[100] ^= 0x41
    file.write_bytes(data)
    with opened(data_dir) as storage:
        assert read_all(storage, "s") == b"one two three"


def test_payload_cannot_pass_for_a_transaction(tmp_path: Path) -> None:
    """A client that stores a copy of the shard's own file does not keep a torn tail from being cut."""
    data_dir, source = tmp_path / "data", tmp_path / "source"
    with opened(source) as storage:
        commit(storage, create("s", b"one"))
        body = shard_file(source).read_bytes()
        begin = _size(storage._shards[0].storage)
        # Whatever it says of where it lies, it does not know the salt.
        commit(storage, append("s", body.rjust(begin * 3)))
        (data_dir / "acid").mkdir(parents=True)
        (data_dir / "acid" / "layout.json").write_bytes((source / "acid" / "layout.json").read_bytes())
        torn = bytearray(shard_file(source).read_bytes())
        torn[begin + STATUS_AT] = ord("c")
        shard_file(data_dir).write_bytes(torn)
    with opened(data_dir) as storage:
        assert read_all(storage, "s") == b"one"


def test_every_length_that_a_crash_can_leave_opens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL")
    data_dir = tmp_path / "data"
    begin, end = write(data_dir)
    file = shard_file(data_dir)
    data = file.read_bytes()
    for length in [*range(begin, begin + 120), *range(begin + 120, end, 97), end - 9, end - 8, end - 1]:
        file.write_bytes(data[:length])
        with opened(data_dir) as storage:
            assert read_all(storage, "s") == b"one two"


class CountingDisk(HastyDisk):
    """Knows how much has been read."""

    read_bytes = 0

    def read(self, fd: int, length: int, position: int) -> bytes:
        data = super().read(fd, length, position)
        self.read_bytes += len(data)
        return data


def test_payload_full_of_what_looks_like_headers_is_not_read_for_each_of_them(tmp_path: Path) -> None:
    header = bytes(8) + p64(1_500_000) + b" " + bytes(6)
    with opened(tmp_path / "data") as storage:
        commit(storage, create("s", b"kept"))
        kept = _size(storage._shards[0].storage)
        commit(storage, append("s", (header + b"." * 3000) * 800))
    file = shard_file(tmp_path / "data")
    file.with_suffix(".fs.index").unlink()
    with file.open("r+b") as torn:
        torn.truncate(file.stat().st_size - 1)
    disk = CountingDisk()
    size = file.stat().st_size
    with opened(tmp_path / "data", disk=disk) as storage:
        assert read_all(storage, "s") == b"kept"
        assert _size(storage._shards[0].storage) == kept
    assert disk.read_bytes < 10 * size
