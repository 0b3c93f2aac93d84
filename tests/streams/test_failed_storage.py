"""A storage that can no longer know what is on disk is not ready, also where it commits without a committer."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from durable_streams.protocol.errors import ProtocolError
from durable_streams.protocol.requests import Append, Create
from durable_streams.protocol.state import NO_EXPIRY
from durable_streams.storage.files import Disk, FileStorage
from durable_streams.streams.batch import Limits
from durable_streams.streams.store import StreamStore


class BrokenDisk(Disk):
    """Writes, cuts and syncs fail once `is_broken` is set."""

    is_broken = False

    def write(self, *args: object) -> None:
        self._check()
        super().write(*args)  # type: ignore[arg-type]

    def truncate(self, *args: object) -> None:
        self._check()
        super().truncate(*args)  # type: ignore[arg-type]

    def sync(self, *args: object) -> None:
        self._check()
        super().sync(*args)  # type: ignore[arg-type]

    def _check(self) -> None:
        if self.is_broken:
            raise OSError(errno.EIO, "broken on purpose")


@pytest.mark.parametrize("durable", [False, True])
def test_a_storage_that_failed_is_known_to_have_failed(durable: bool, tmp_path: Path) -> None:
    disk = BrokenDisk()
    store = StreamStore(FileStorage(tmp_path / "data", durable, disk=disk), Limits())
    store.open()
    store.create(Create("a", "text/plain", NO_EXPIRY, False, b"kept"))
    assert not store.failed
    disk.is_broken = True
    for _ in range(2):
        with pytest.raises((ProtocolError, OSError)):
            store.append(Append("a", "text/plain", b"lost"))
    assert store.failed
    state = store.find("a")
    assert store.read(state, 0, 100).data == b"kept"
    store.close()
