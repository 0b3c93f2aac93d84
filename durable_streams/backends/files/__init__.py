"""The file modes: one journal for all streams, and files behind it (docs/storage-files.md)."""

from __future__ import annotations

from durable_streams.backends.directory import DirectoryDamaged, DirectoryInUse, WrongLayout
from durable_streams.backends.disk import Disk
from durable_streams.backends.files.storage import FileStorage
from durable_streams.backends.files.tuning import Tuning

__all__ = ["DirectoryDamaged", "DirectoryInUse", "Disk", "FileStorage", "Tuning", "WrongLayout"]
