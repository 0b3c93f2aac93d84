"""The journal as it is written: batches at the end of the newest file, each whole or taken back.

Which state a batch belongs to, and when a file is no longer needed, is not decided here; reading is in scanning.py.
All methods may block; one caller at a time.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from durable_streams.backends.files.disk import Disk, says_full
from durable_streams.backends.files.layout import Layout
from durable_streams.backends.files.records import (
    JOURNAL_HEADER_BYTES,
    JournalHeader,
    encode_batch,
    encode_values,
)
from durable_streams.protocol.errors import StorageFull, Unavailable


class JournalFile:
    """One file of the journal, open for writing."""

    __slots__ = ("end", "fd", "header")

    def __init__(self, fd: int, header: JournalHeader, end: int) -> None:
        self.fd = fd
        self.header = header
        self.end = end


def create_file(disk: Disk, layout: Layout, number: int) -> JournalFile:
    """A new file without batches, durable under its name."""
    header = JournalHeader(number, os.urandom(4))
    fd = disk.open(layout.journal(number), write=True)
    try:
        disk.truncate(fd, 0)
        disk.write(fd, [header.encode()], 0)
        disk.sync(fd)
        disk.sync_dir(layout.journals)
    except BaseException:
        disk.close(fd)
        raise
    return JournalFile(fd, header, JOURNAL_HEADER_BYTES)


class Journal:
    """Where batches go."""

    def __init__(self, disk: Disk, file: JournalFile, seq: int, synced: int, durable: bool) -> None:
        """``seq`` is the newest batch in the journal, ``synced`` the newest that is known to be on the disk."""
        self.seq = seq
        self.synced = synced
        self.failed: Exception | None = None
        """Set when it is no longer known what the file holds; nothing is written from then on."""
        self._disk = disk
        self._file = file
        self._durable = durable

    @property
    def number(self) -> int:
        return self._file.header.number

    @property
    def length(self) -> int:
        """Length of the file that is written to."""
        return self._file.end

    def append(self, changes: Sequence[Any], payload: Sequence[bytes]) -> None:
        """Write one batch, and sync it where the mode is durable.

        Raises StorageFull or Unavailable when nothing of it was kept, any other exception when that is not known.
        """
        if self.failed is not None:
            raise Unavailable(f"the journal has failed: {self.failed}")
        file, seq = self._file, self.seq + 1
        parts = encode_batch(file.header.marker, seq, self.synced, encode_values(changes), payload)
        try:
            self._disk.write(file.fd, parts, file.end)
        except OSError as exc:
            self._take_back(exc)
        if self._durable:
            self._sync(file)
            self.synced = seq
        self.seq = seq
        file.end += sum(map(len, parts))

    def written(self) -> tuple[JournalFile, int]:
        """What ``sync`` would make durable now."""
        return self._file, self.seq

    def sync(self, file: JournalFile, seq: int) -> None:
        """Make ``file`` durable, whose newest batch is ``seq``; older files have been synced before."""
        if self.synced < seq and self.failed is None:
            self._sync(file)
            self.synced = max(self.synced, seq)

    def switch(self, file: JournalFile) -> JournalFile:
        """Go on in ``file``; the answer is the one that was written to until now, to be synced and closed."""
        before, self._file = self._file, file
        return before

    def close(self, file: JournalFile | None = None) -> None:
        self._disk.close((file or self._file).fd)

    def _sync(self, file: JournalFile) -> None:
        # After a failed sync the system may have dropped the pages, and the next one would succeed all the same.
        try:
            self._disk.sync(file.fd)
        except BaseException as exc:
            self.failed = exc if isinstance(exc, Exception) else RuntimeError("a sync was interrupted")
            raise

    def _take_back(self, error: OSError) -> None:
        """A write has failed: remove what it left, durably, so that a batch that was refused cannot come back."""
        try:
            self._disk.truncate(self._file.fd, self._file.end)
            if self._durable:
                self._disk.sync(self._file.fd)
        except OSError as exc:
            self.failed = exc
            raise
        if says_full(error):
            raise StorageFull(str(error)) from error
        raise Unavailable(f"the journal could not be written: {error}") from error


def discard(disk: Disk, layout: Layout, file: JournalFile) -> None:
    """Remove a file that has never been written to."""
    disk.close(file.fd)
    with suppress(OSError):
        disk.unlink(layout.journal(file.header.number))
