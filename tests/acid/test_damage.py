"""A changed byte is never served: it is an error with a name, for the streams that it concerns alone."""

from __future__ import annotations

import logging
from pathlib import Path
from random import Random

import pytest
from ZODB.FileStorage.format import DATA_HDR_LEN, TRANS_HDR_LEN
from ZODB.utils import u64

from durable_streams.protocol.errors import StreamDamaged
from durable_streams.protocol.requests import Remove
from durable_streams.storage.zodb import AcidStorage, DirectoryDamaged
from durable_streams.storage.zodb.maintenance import AcidMaintenance
from tests.acid.driving import build, commit, opened, pack_all, shard_file
from tests.engines.driving import Contents, append, contents, create, decide, flip, read_all, record

LARGE = Random(1).randbytes(150_000)


def write(data_dir: Path) -> Contents:
    """Packed, so that every byte of the file is part of something current."""
    with opened(data_dir) as storage:
        commit(storage, create("large", LARGE), create("inline", b"i" * 500), create("chunks", b"c" * 3000))
        commit(storage, append("chunks", b"d" * 3000))
        commit(storage, create("empty"))
        pack_all(storage)
        return contents(storage)


def served(storage: AcidStorage, expected: Contents) -> int:
    """Every stream is as it was or damaged; returns how many are damaged."""
    damaged = 0
    for name in expected:
        try:
            state = storage.known(name)
            assert state is not None, f"{name} has gone"
            data = storage.read(state, state.config.forked_at, state.tail)
            assert data == expected[name][1]
        except StreamDamaged as exc:
            damaged += name in exc.cause
    return damaged


def positions(file: Path) -> list[int]:
    """All of the file but most of the payload; every byte of the header of the newest transaction."""
    size = file.stat().st_size
    random = Random(size)
    newest = size - 8 - u64(file.read_bytes()[-8:])
    every = range(newest, newest + TRANS_HDR_LEN)
    return sorted(
        {*random.sample(range(size), 60), *range(0, 400, 11), *range(size - 1500, size, 11), *every}
    )


def test_a_changed_byte_is_an_error_with_a_name_and_never_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL + 1)
    expected = write(tmp_path / "data")
    file = shard_file(tmp_path / "data")
    seen = {"refused": 0, "damaged": 0, "unharmed": 0}
    for position in positions(file):
        flip(file, position)
        storage = build(tmp_path / "data")
        try:
            storage.open()
        except DirectoryDamaged as exc:
            seen["refused"] += str(file) in str(exc)
        else:
            damaged = served(storage, expected)
            seen["damaged" if damaged else "unharmed"] += 1
            storage.close()
        problems = AcidMaintenance().verify(tmp_path / "data").problems
        assert problems, f"verify has not seen the changed byte {position}"
        flip(file, position)
    print(seen)
    assert sum(seen.values()) == len(positions(file))
    assert seen["damaged"] > seen["refused"]
    with opened(tmp_path / "data") as storage:
        assert contents(storage) == expected


def test_a_stream_that_can_be_loaded_and_not_be_changed_does_not_hold_up_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its head is known from memory while the segment that an append has to lengthen is damaged."""
    caplog.set_level(logging.CRITICAL + 1)
    with opened(tmp_path / "data") as storage:
        commit(storage, create("s", b"s" * 3000))
    data = shard_file(tmp_path / "data").read_bytes()
    flip(shard_file(tmp_path / "data"), data.index(b"s" * 3000) + 5)
    with opened(tmp_path / "data") as storage:
        assert storage.known("s") is not None
        changes = decide(storage, [append("s", bytes(100_000)), create("other")])
        assert record(storage, changes) == {"s"}
        assert storage.names("", "", 10) == ["other", "s"]
        with pytest.raises(StreamDamaged):
            storage.known("s")
        commit(storage, append("other", b"x"))
        assert read_all(storage, "other") == b"x"


def test_a_damaged_stream_that_goes_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """Its objects are deleted with one of the next transactions, whatever that is about."""
    with opened(tmp_path / "data") as storage:
        commit(storage, create("s", b"s" * 3000), create("other"))
    file = shard_file(tmp_path / "data")
    data = file.read_bytes()
    flip(file, data.rindex(b"\x80\x03c", 0, data.index(b"s" * 3000)) - DATA_HDR_LEN)
    with opened(tmp_path / "data") as storage:
        commit(storage, Remove("s"))
        commit(storage, append("other", b"goes on"))
        pack_all(storage)
    with opened(tmp_path / "data") as storage:
        assert storage.names("", "", 10) == ["other"]
        assert read_all(storage, "other") == b"goes on"
