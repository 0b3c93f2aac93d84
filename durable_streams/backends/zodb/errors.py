"""Why a data directory cannot be opened; each says so in one sentence with the path in it."""

from __future__ import annotations

from pathlib import Path


class DirectoryInUse(OSError):
    """Another process owns the directory."""

    def __init__(self, data_dir: Path, owner: str) -> None:
        by = f"process {owner}" if owner else "another process"
        super().__init__(f"the data directory {data_dir} is in use by {by}")


class WrongLayout(ValueError):
    """The directory is not one of ours, not of a version that this server reads, or divided into other shards."""


class DirectoryDamaged(ValueError):
    """Something that had been made durable is missing or changed; opening does not guess."""

    def __init__(self, path: str, position: int, what: str) -> None:
        super().__init__(f"{path} is damaged at byte {position}: {what}")
        self.path = path
        self.position = position
