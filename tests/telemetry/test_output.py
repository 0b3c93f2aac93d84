"""Log lines for a reader that stalls: nobody waits, the order is kept, and what is lost is counted."""

from __future__ import annotations

import os
import pty
import re
import socket
import threading
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from durable_streams.telemetry.output import BUFFERED_BYTES_MAX, PatientOutput, _sender

LINE = b"%06d " + b"x" * 500 + b"\n"
LINES = 2 * BUFFERED_BYTES_MAX // 500
DROPPED = re.compile(rb"(\d+) log lines were dropped: standard output was not read\n")
END = b"the end\n"


def pipe() -> tuple[int, int]:
    return os.pipe()


def stream_socket() -> tuple[int, int]:
    reading, writing = socket.socketpair()
    return reading.detach(), writing.detach()


def terminal() -> tuple[int, int]:
    reading, writing = pty.openpty()
    tty.setraw(writing)
    return reading, writing


@pytest.fixture(params=[pipe, stream_socket, terminal], ids=lambda make: make.__name__)
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    make: Callable[[], tuple[int, int]] = request.param
    reading, writing = make()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def patient(descriptor: int) -> PatientOutput:
    send = _sender(descriptor)
    assert send is not None
    return PatientOutput(descriptor, send)


def is_written(output: PatientOutput) -> bool:
    """Asked under the lock: its thread takes a line out for a moment, and puts back the rest of it."""
    with output._lock:
        return not output._waiting


class Reader:
    """Reads all until the end, in a thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._seen = b""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while not self._seen.endswith(END):
            self._seen += os.read(self._descriptor, 65_536)

    def all(self) -> bytes:
        self._thread.join(180)
        assert not self._thread.is_alive()
        return self._seen


def test_lines_that_nobody_reads_are_dropped_and_counted(ends: tuple[int, int]) -> None:
    output = patient(ends[1])
    for number in range(LINES):
        output.write(LINE % number)
    reader = Reader(ends[0])
    # When all that was kept has been written, the count has been too.
    while not is_written(output):
        output.drain()
    output.write(END)
    seen = reader.all()
    (dropped,) = DROPPED.findall(seen)
    kept = [line for line in seen.splitlines(keepends=True) if line.endswith(b"x\n")]
    assert kept == [LINE % number for number in range(len(kept))]
    assert len(kept) + int(dropped) == LINES
    assert BUFFERED_BYTES_MAX // 510 < len(kept) < LINES


def test_a_reader_that_comes_late_gets_all_that_was_kept(ends: tuple[int, int]) -> None:
    output = patient(ends[1])
    lines = [LINE % number for number in range(BUFFERED_BYTES_MAX // 600)]
    for line in lines:
        output.write(line)
    output.write(END)
    assert Reader(ends[0]).all() == b"".join([*lines, END])


def test_the_descriptor_itself_stays_as_it_was(ends: tuple[int, int]) -> None:
    patient(ends[1]).write(b"x\n")
    assert os.get_blocking(ends[1])


def test_a_reader_that_has_gone_is_no_error() -> None:
    reading, writing = os.pipe()
    output = patient(writing)
    os.close(reading)
    output.write(b"x\n")
    output.drain()
    os.close(writing)


def test_a_file_takes_everything_and_needs_no_care(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        assert _sender(file.fileno()) is None


def test_a_forked_child_does_not_write_what_waits_in_its_parent() -> None:
    reading, writing = os.pipe()
    output = patient(writing)
    for number in range(400):
        output.write(LINE % number)
    assert output._waiting
    child = os.fork()
    if child == 0:
        os._exit(len(output._waiting))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(reading)
    output.drain()
    os.close(writing)
