"""The server of wsgi.py, whose disk fails to sync while there is a file `broken` beside the data directory."""

from __future__ import annotations

import errno
from pathlib import Path

from durable_streams.app import create_app
from durable_streams.config import Config
from durable_streams.serving import served_config
from durable_streams.storage.contract import Storage
from durable_streams.storage.on_disk.disk import Disk


class BreakingDisk(Disk):
    """The calls come from several threads, so a file is what they all can see."""

    def __init__(self, broken: Path) -> None:
        self._broken = broken

    def sync(self, fd: int) -> None:
        if self._broken.exists():
            raise OSError(errno.EIO, "broken on purpose")
        super().sync(fd)


def breaking_storage(config: Config) -> Storage:
    data_dir = Path(config.storage.data_dir)
    disk = BreakingDisk(data_dir.with_name("broken"))
    if config.storage.mode == "acid":
        from durable_streams.storage.zodb import AcidStorage

        return AcidStorage(data_dir, config.storage.acid_shard_count, disk=disk)
    from durable_streams.storage.files import FileStorage

    return FileStorage(data_dir, durable=True, disk=disk)


app = create_app(served_config(), breaking_storage(served_config()))
