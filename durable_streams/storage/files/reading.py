"""Reading payload that is in files: checked, at once where the system has it in memory, in a thread elsewhere."""

from __future__ import annotations

from collections import OrderedDict

from durable_streams.eventloop.threads import Threads
from durable_streams.storage.files.index import OWN_FILE, Home, Record
from durable_streams.storage.files.layout import Layout
from durable_streams.storage.files.segments import BytesDamaged, Extent, Packed
from durable_streams.storage.on_disk.disk import Disk, Part

BUFFER_BYTES = 2 << 20


class OpenFile:
    __slots__ = ("fd", "path", "users")

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd
        self.users = 1


class OpenFiles:
    """Keeps the files that were read last; ``borrow`` and ``give_back`` belong together.

    Only for the thread of the event loop; ``open`` alone may be called in another.
    """

    def __init__(self, disk: Disk, kept_max: int) -> None:
        self._disk = disk
        self._kept_max = kept_max
        self._kept: OrderedDict[str, OpenFile] = OrderedDict()

    def borrow(self, path: str) -> OpenFile | None:
        """The file if it is open already."""
        file = self._kept.get(path)
        if file is not None:
            self._kept.move_to_end(path)
            file.users += 1
        return file

    def open(self, path: str) -> OpenFile:
        """A file of one's own; ``give_back`` makes it everybody's."""
        return OpenFile(path, self._disk.open(path))

    def give_back(self, file: OpenFile) -> None:
        file.users -= 1
        if not file.users and (not file.path or self._kept.setdefault(file.path, file) is not file):
            self._disk.close(file.fd)
        self._close_unused(self._kept_max)

    def forget(self, path: str) -> None:
        """The file is about to go; who reads it now may finish."""
        file = self._kept.pop(path, None)
        if file is None:
            return
        file.path = ""
        if not file.users:
            self._disk.close(file.fd)

    def close(self) -> None:
        self._close_unused(0)

    def _close_unused(self, kept_max: int) -> None:
        for file in list(self._kept.values()):
            if len(self._kept) <= kept_max:
                return
            if not file.users:
                del self._kept[file.path]
                self._disk.close(file.fd)


def located(
    layout: Layout, id: int, base: int, home: Home, start: int, stop: int
) -> tuple[str, Extent | Packed]:
    """The file, and what of it to read, for positions ``start`` to ``stop`` below ``home.written``."""
    written = home.written - base
    if home.checkpoint == OWN_FILE:
        return layout.stream(id), Extent(start - base, stop - base, written, home.checksum)
    packed = Packed(start - base, stop - base, home.at, written, home.checksum)
    return layout.checkpoint(home.checkpoint), packed


class PayloadReader:
    """Reads for many greenlets at once."""

    def __init__(self, disk: Disk, layout: Layout, files_kept_max: int, threads_max: int) -> None:
        self.files = OpenFiles(disk, files_kept_max)
        self._disk = disk
        self._layout = layout
        self._threads = Threads(threads_max)
        self._buffer = bytearray(BUFFER_BYTES)

    def read(self, record: Record, start: int, stop: int) -> bytes:
        """Positions ``start`` to ``stop``, below ``record.home.written``.

        Raises BytesDamaged or OSError; FileNotFoundError also when the stream has gone meanwhile.
        """
        while True:
            home = record.home
            path, wanted = located(self._layout, record.id, record.state.config.forked_at, home, start, stop)
            try:
                # No switch between the two: what is in the buffer is replaced by the next read.
                return wanted.payload(self._stored(path, wanted.at, wanted.length))
            except (FileNotFoundError, BytesDamaged):
                # A checkpoint may have moved it to another file since.
                if record.home is home or record.home.checkpoint == home.checkpoint:
                    raise

    def _stored(self, path: str, at: int, length: int) -> Part:
        file = self.files.borrow(path)
        if file is None:
            file, data = self._threads.run_for(self._give_back_opened, self._open_and_read, path, at, length)
            self.files.give_back(file)
            return data
        try:
            buffer = self._buffer_of(length)
            if self._disk.read_cached(file.fd, buffer, at):
                return buffer
            return self._threads.run(self._disk.read, file.fd, length, at)
        finally:
            self.files.give_back(file)

    def _buffer_of(self, length: int) -> memoryview:
        """Memory that is new to the process costs more than the read itself, so it is used again and again."""
        if length > BUFFER_BYTES:
            return memoryview(bytearray(length))
        return memoryview(self._buffer)[:length]

    def _open_and_read(self, path: str, at: int, length: int) -> tuple[OpenFile, bytes]:
        file = self.files.open(path)
        try:
            return file, self._disk.read(file.fd, length, at)
        except BaseException:
            self._disk.close(file.fd)
            raise

    def _give_back_opened(self, opened: tuple[OpenFile, bytes]) -> None:
        self.files.give_back(opened[0])

    def close(self) -> None:
        self._threads.close()
        self.files.close()
