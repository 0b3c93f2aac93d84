"""The journal: batches are added to the newest file, each whole or taken back, and read in order after a stop.

The content of batches, and when a file is no longer needed, are decided elsewhere. All methods may block. How the cut
of a crash is told from damage is in docs/storage-files.md, "Journal".
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from durable_streams.protocol.errors import StorageFull, Unavailable
from durable_streams.storage.files.layout import Layout, numbered
from durable_streams.storage.files.records import (
    BATCH_HEADER_BYTES,
    JOURNAL_HEADER_BYTES,
    BatchHeader,
    JournalHeader,
    batch_is_whole,
    encode_batch,
    encode_values,
)
from durable_streams.storage.on_disk.directory import DirectoryDamaged
from durable_streams.storage.on_disk.disk import Disk, says_full

WINDOW_BYTES = 1 << 20


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
    """The writer of batches."""

    def __init__(self, disk: Disk, file: JournalFile, seq: int, synced: int, durable: bool) -> None:
        """``seq`` is the newest batch in the journal, ``synced`` the newest that is known to be on the disk."""
        self.seq = seq
        self.synced = synced
        self.failed: Exception | None = None
        """Set when it is no longer known what the file holds; nothing is written from then on."""
        self._disk = disk
        self._file = file
        self._durable = durable
        self._told = 0
        """The newest batch that the file itself records as synced."""
        self._mark = 0
        """The newest mark, a batch too."""

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
        self._told = self.synced
        if self._durable:
            self._sync(file)
            self.synced = seq
        self.seq = seq
        file.end += sum(map(len, parts))

    def mark(self) -> None:
        """After a sync: record in the file what it covered, as a batch without changes.

        Otherwise the next batch would be the first record of it, and damage before that would look like a torn end. A
        durable commit needs no mark: the last batch alone is without proof. Raises as ``append``.
        """
        is_new = self._told < self.synced != self._mark
        if is_new and not self._durable and self.failed is None and self.length > JOURNAL_HEADER_BYTES:
            self.append((), ())
            self._mark = self.seq

    def written(self) -> tuple[JournalFile, int]:
        """What ``sync`` would make durable now."""
        return self._file, self.seq

    def sync(self, file: JournalFile, seq: int) -> None:
        """Make ``file`` durable, whose newest batch is ``seq``; older files have been synced before."""
        if self.synced < seq and self.failed is None:
            self._sync(file)
            self.synced = max(self.synced, seq)

    def has_covered(self, seq: int) -> None:
        """A checkpoint holds everything up to batch ``seq``, which is as good as synced."""
        self.synced = max(self.synced, seq)

    def switch(self, file: JournalFile) -> JournalFile:
        """Continue in ``file``; returns the one before, to be synced and closed."""
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


class JournalBatch(NamedTuple):
    seq: int
    synced: int
    changes: memoryview
    payload: memoryview
    path: str
    at: int
    end: int


class JournalReader:
    """One file. ``end`` is the position after the last batch that ``batches`` found."""

    def __init__(self, disk: Disk, path: str, number: int) -> None:
        self.path = path
        self.number = number
        self._disk = disk
        self._fd = -1
        self._window = b""
        self._window_at = 0
        try:
            self.size = disk.size(self._descriptor())
            header = JournalHeader.decode(disk.read(self._descriptor(), JOURNAL_HEADER_BYTES, 0))
        finally:
            self.close()
        self.header = header if header is not None and header.number == number else None
        self.end = JOURNAL_HEADER_BYTES if self.header else 0

    def _descriptor(self) -> int:
        if self._fd < 0:
            self._fd = self._disk.open(self.path)
        return self._fd

    def close(self) -> None:
        """Close the file until the next read; there may be more files than the system allows to be open."""
        if self._fd >= 0:
            self._disk.close(self._fd)
        self._fd, self._window = -1, b""

    def batches(self) -> Iterator[JournalBatch]:
        """Whole batches one behind the other, up to the first that is not whole."""
        while (batch := self._batch(self.end)) is not None:
            self.end = batch.end
            yield batch

    def later_batches(self, position: int) -> Iterator[JournalBatch]:
        """Whole batches anywhere from ``position`` on, found by the journal's marker."""
        found: int | None = position
        while self.header is not None and found is not None:
            batch = self._batch(found)
            if batch is not None:
                yield batch
            found = batch.end if batch else self._find_marker(found + 1)

    def _batch(self, at: int) -> JournalBatch | None:
        if self.header is None or at + BATCH_HEADER_BYTES > self.size:
            return None
        start = self._bytes(at, BATCH_HEADER_BYTES)
        if len(start) < BATCH_HEADER_BYTES:
            return None
        header = BatchHeader.decode(start, 0)
        end = at + header.length
        if header.marker != self.header.marker or end > self.size:
            return None
        data = self._bytes(at, header.length)
        if not batch_is_whole(header, data):
            return None
        payload_at = BATCH_HEADER_BYTES + header.changes_bytes
        return JournalBatch(
            header.seq,
            header.synced,
            data[BATCH_HEADER_BYTES:payload_at],
            data[payload_at:],
            self.path,
            at,
            end,
        )

    def _bytes(self, at: int, length: int) -> memoryview:
        first = at - self._window_at
        if first < 0 or first + length > len(self._window):
            self._window = self._disk.read(self._descriptor(), max(length, WINDOW_BYTES), at)
            self._window_at, first = at, 0
        return memoryview(self._window)[first : first + length]

    def _find_marker(self, position: int) -> int | None:
        assert self.header is not None
        while position < self.size:
            data = self._disk.read(self._descriptor(), WINDOW_BYTES, position)
            found = data.find(self.header.marker)
            if found >= 0:
                return position + found
            if len(data) < WINDOW_BYTES:
                return None
            position += len(data) - len(self.header.marker) + 1
        return None


class End(NamedTuple):
    """Where writing goes on: ``seq`` is the newest batch, ``torn_bytes`` what lies behind it and was never promised."""

    number: int
    header: JournalHeader | None
    position: int
    seq: int
    torn_bytes: int


class JournalScan:
    """All files of a journal from ``first`` on; ``seq`` is the newest batch before them."""

    def __init__(self, disk: Disk, layout: Layout, first: int, seq: int) -> None:
        self._disk = disk
        self._layout = layout
        self._first = first
        self._seq = seq
        self.numbers = [n for n in numbered(disk.names(layout.journals), ".log") if n >= first]
        self._readers: list[JournalReader] = []
        self._last = 0

    def check_files(self) -> None:
        """Raise DirectoryDamaged when a file is missing."""
        for expected, number in enumerate(self.numbers or [-1], self._first):
            if number != expected:
                raise DirectoryDamaged(self._layout.journal(expected), 0, "this journal is missing")

    def batches(self) -> Iterator[JournalBatch]:
        """Every batch that counts, in order; then ``end`` says where they stop."""
        self.check_files()
        # The newest is opened first: what is in it by then was written after all of the older ones, also by a server
        # that goes on writing.
        for number in reversed(self.numbers):
            self._readers.insert(0, JournalReader(self._disk, self._layout.journal(number), number))
        self._leave_out_unfinished()
        for place, reader in enumerate(self._readers):
            self._check_header(reader)
            for batch in reader.batches():
                if batch.seq != self._seq + 1:
                    reader.end = batch.at
                    break
                self._last, self._seq = place, batch.seq
                yield batch
            reader.close()

    def end(self) -> End:
        """Raises DirectoryDamaged when batches are missing that had been on the disk."""
        rest = self._readers[self._last :]
        torn = next((reader for reader in rest if reader.end < reader.size), rest[-1])
        for reader in rest:
            for batch in reader.later_batches(reader.end):
                if batch.synced > self._seq:
                    what = f"batch {self._seq + 1} is missing, and {reader.path} holds batch {batch.seq}, written later"
                    raise DirectoryDamaged(torn.path, torn.end, what)
            reader.close()
        torn_bytes = sum(reader.size - reader.end for reader in rest)
        return End(torn.number, torn.header, torn.end, self._seq, torn_bytes)

    def _leave_out_unfinished(self) -> None:
        """A newest file that was just being made holds nothing yet, and writing had not moved over to it."""
        *older, newest = self._readers
        if older and newest.header is None and newest.size <= JOURNAL_HEADER_BYTES:
            self._readers = older

    def _check_header(self, reader: JournalReader) -> None:
        """A header is durable before anything follows it, so only the newest file can lack one."""
        if reader.header is None and (reader.size > JOURNAL_HEADER_BYTES or reader is not self._readers[-1]):
            raise DirectoryDamaged(reader.path, 0, "the header of the journal is not whole")

    def close(self) -> None:
        for reader in self._readers:
            reader.close()
