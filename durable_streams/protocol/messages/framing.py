"""How JSON messages lie in a stream, and what a reader gets of them (section 9.1).

A message is stored as its own source text without white space between tokens, followed by a line break. A line break
can stand nowhere else, so it marks a boundary, and a run of whole messages becomes an array of the same text by a
replacement of single bytes: the length of an answer is known before its bytes are read.

Streams that an earlier version began (``StreamConfig.old_messages``) hold messages that end in a comma and a line
break. No JSON text ends in a comma, so both forms may follow each other in one stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from durable_streams.protocol.errors import InvalidOffset

MESSAGE_END: Final = b"\n"
_OLD_MESSAGE_END: Final = b",\n"


def to_array(stored: bytes, *, old_messages: bool = False) -> bytes:
    """The body of a read: a JSON array of all messages in a run of whole stored ones."""
    return b"".join((b"[", memoryview(join_messages(stored, old_messages=old_messages))[:-1], b"]"))


def join_messages(stored: bytes, *, old_messages: bool = False) -> bytes:
    """Stored messages, or a part of some, as they stand in an array: each is followed by a comma."""
    if old_messages:
        stored = stored.replace(_OLD_MESSAGE_END, MESSAGE_END)
    return stored.replace(MESSAGE_END, b",")


def array_bytes(stored_bytes: int, *, old_messages: bool = False) -> int | None:
    """The length of ``to_array`` for so many stored bytes, at least one; None where it depends on the messages."""
    return None if old_messages else stored_bytes + 1


def to_array_pieces(stored: Iterable[bytes], *, old_messages: bool = False) -> Iterator[bytes]:
    """``to_array`` for a run, at least one message long, that comes in pieces cut anywhere."""
    before, held = b"[", b""
    for piece in stored:
        run = held + piece
        # What ends a message becomes a comma only when another one follows.
        held = _open_end(run)
        yield before + join_messages(run[: len(run) - len(held)], old_messages=old_messages)
        before = b""
    yield b"]"


def _open_end(run: bytes) -> bytes:
    if run.endswith(_OLD_MESSAGE_END):
        return _OLD_MESSAGE_END
    return run[-1:] if run.endswith((b",", MESSAGE_END)) else b""


def pass_messages(data: bytes, count: int) -> tuple[int, int]:
    """How many of ``count`` messages are still to pass after the stored ``data``, and the bytes that were passed."""
    available = data.count(MESSAGE_END)
    if available < count:
        return count - available, len(data)
    end = 0
    for _ in range(count):
        end = data.index(MESSAGE_END, end) + 1
    return 0, end


def check_boundary(byte_before: bytes) -> None:
    """Raise InvalidOffset unless the stored byte before a position ends a message."""
    if byte_before != MESSAGE_END:
        raise InvalidOffset("Invalid offset: it lies inside a JSON message")
