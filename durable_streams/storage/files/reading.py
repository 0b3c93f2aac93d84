"""Reading payload that is in files: checked, at once where the system has it in memory, in a thread elsewhere."""

from __future__ import annotations

from collections import OrderedDict

from durable_streams.eventloop.threads import Threads
from durable_streams.storage.files.index import STREAM_FILE, Location, Record
from durable_streams.storage.files.layout import Layout
from durable_streams.storage.files.segments import BytesDamaged, Extent, Packed
from durable_streams.storage.on_disk.disk import Disk, Part
from durable_streams.storage.on_disk.open_file import OpenFile

BUFFER_BYTES = 2 << 20


class OpenFiles:
    """Keeps the files that were read last; ``borrow`` or ``keep`` comes before ``give_back``.

    Only for the thread of the event loop.
    """

    def __init__(self, kept_max: int) -> None:
        self._kept_max = kept_max
        self._kept: OrderedDict[str, OpenFile] = OrderedDict()

    def borrow(self, path: str) -> OpenFile | None:
        """The file if it is open already."""
        file = self._kept.get(path)
        if file is not None:
            self._kept.move_to_end(path)
            file.borrow()
        return file

    def keep(self, file: OpenFile) -> None:
        """A file that somebody has opened for himself is everybody's from now on, unless there is one already."""
        if self._kept.setdefault(file.path, file) is not file:
            file.retire()
        self._close_unused(self._kept_max)

    def forget(self, path: str) -> None:
        """The file is about to go; who reads it now may finish."""
        file = self._kept.pop(path, None)
        if file is not None:
            file.retire()

    def close(self) -> None:
        self._close_unused(0)

    def _close_unused(self, kept_max: int) -> None:
        for file in list(self._kept.values()):
            if len(self._kept) <= kept_max:
                return
            if not file.users:
                del self._kept[file.path]
                file.retire()


def located(
    layout: Layout, id: int, base: int, location: Location, start: int, stop: int
) -> tuple[str, Extent | Packed]:
    """The file, and what of it to read, for positions ``start`` to ``stop`` below ``location.written``."""
    written = location.written - base
    if location.checkpoint == STREAM_FILE:
        return layout.stream(id), Extent(start - base, stop - base, written, location.checksum)
    packed = Packed(start - base, stop - base, location.at, written, location.checksum)
    return layout.checkpoint(location.checkpoint), packed


class PayloadReader:
    """Reads for many greenlets at once."""

    def __init__(self, disk: Disk, layout: Layout, files_kept_max: int, threads_max: int) -> None:
        self.files = OpenFiles(files_kept_max)
        self._disk = disk
        self._layout = layout
        self._threads = Threads(threads_max)
        self._buffer = bytearray(BUFFER_BYTES)

    def read(self, record: Record, start: int, stop: int) -> bytes:
        """Positions ``start`` to ``stop``, below ``record.location.written``.

        Raises BytesDamaged or OSError; FileNotFoundError also when the stream has gone meanwhile.
        """
        while True:
            location = record.location
            path, wanted = located(
                self._layout, record.id, record.state.config.forked_at, location, start, stop
            )
            try:
                # No switch between the two: what is in the buffer is replaced by the next read.
                return wanted.payload(self._stored(path, wanted.at, wanted.length))
            except (FileNotFoundError, BytesDamaged):
                # A checkpoint may have moved it to another file since.
                if record.location is location or record.location.checkpoint == location.checkpoint:
                    raise

    def _stored(self, path: str, at: int, length: int) -> Part:
        file = self.files.borrow(path)
        if file is None:
            file, data = self._threads.run_for(self._keep_opened, self._open_and_read, path, at, length)
            self.files.keep(file)
            return data
        try:
            return file.read_into(self._buffer_of(length), at, self._threads)
        finally:
            file.give_back()

    def _buffer_of(self, length: int) -> memoryview:
        """Memory that is new to the process costs more than the read itself, so it is used again and again."""
        if length > BUFFER_BYTES:
            return memoryview(bytearray(length))
        return memoryview(self._buffer)[:length]

    def _open_and_read(self, path: str, at: int, length: int) -> tuple[OpenFile, bytes]:
        file = OpenFile(self._disk, path)
        try:
            return file, self._disk.read(file.fd, length, at)
        except BaseException:
            file.retire()
            raise

    def _keep_opened(self, opened: tuple[OpenFile, bytes]) -> None:
        self.files.keep(opened[0])

    def close(self) -> None:
        self._threads.close()
        self.files.close()
