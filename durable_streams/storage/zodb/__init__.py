"""The acid mode: every change one transaction of a ZODB database (docs/storage-acid.md)."""

from __future__ import annotations

from durable_streams.storage.on_disk.directory import DirectoryDamaged, DirectoryInUse, WrongLayout
from durable_streams.storage.on_disk.disk import Disk
from durable_streams.storage.zodb.background import AcidTuning
from durable_streams.storage.zodb.storage import AcidStorage

__all__ = ["AcidStorage", "AcidTuning", "DirectoryDamaged", "DirectoryInUse", "Disk", "WrongLayout"]
