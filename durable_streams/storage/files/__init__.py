"""The file modes: one journal for all streams, and files behind it (docs/storage-files.md)."""

from __future__ import annotations

from durable_streams.storage.files.storage import FileStorage
from durable_streams.storage.files.tuning import FileTuning
from durable_streams.storage.on_disk.directory import DirectoryDamaged, DirectoryInUse, WrongLayout
from durable_streams.storage.on_disk.disk import Disk

__all__ = ["DirectoryDamaged", "DirectoryInUse", "Disk", "FileStorage", "FileTuning", "WrongLayout"]
