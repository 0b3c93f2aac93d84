"""The acid mode: every change one transaction of a ZODB database (docs/storage-acid.md)."""

from __future__ import annotations

from durable_streams.backends.directory import DirectoryDamaged, DirectoryInUse, WrongLayout
from durable_streams.backends.disk import Disk
from durable_streams.backends.zodb.keeping import Tuning
from durable_streams.backends.zodb.storage import AcidStorage

__all__ = ["AcidStorage", "DirectoryDamaged", "DirectoryInUse", "Disk", "Tuning", "WrongLayout"]
