"""Data and control events as the bytes of an event stream (section 5.8).

As a compatible extension every event carries ``id:`` = the offset after it, so a plain EventSource resumes by itself.
"""

from __future__ import annotations

from base64 import b64encode
from codecs import utf_8_decode
from typing import Final

from durable_streams.protocol.content import is_text
from durable_streams.protocol.messages.framing import to_array
from durable_streams.protocol.state import StreamConfig

HEARTBEAT: Final = b":\n\n"
CONTENT_TYPE: Final = "text/event-stream"


def is_base64(content_type: str) -> bool:
    """Whether data events of such a stream are base64, announced by ``stream-sse-data-encoding``.

    So is text in a charset other than UTF-8: event streams are UTF-8.
    """
    return not is_text(content_type)


def is_text_event(config: StreamConfig, *, as_base64: bool) -> bool:
    """Whether data events carry characters of the stream, which may be cut anywhere by its writers."""
    return not (as_base64 or config.is_json)


def data_event(config: StreamConfig, data: bytes, next_offset: str, *, as_base64: bool) -> bytes:
    """A data event that carries the stored bytes ``data`` of a stream; ``next_offset`` is the offset after them.

    Without ``as_base64`` they are JSON messages or UTF-8.
    """
    if as_base64:
        payload = b64encode(data)
    elif config.is_json:
        payload = to_array(data, old_messages=config.old_messages)
    else:
        payload = _lines(data)
    return b"".join((b"event: data\ndata:", payload, b"\nid: ", next_offset.encode("ascii"), b"\n\n"))


def _lines(text: bytes) -> bytes:
    """Every line gets the field's name, so nothing in the text can end the event or begin another.

    A reader drops one space after the colon, so a line that begins with a space is given a second one.
    """
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    space = b" " if text.startswith(b" ") else b""
    return space + text.replace(b"\n", b"\ndata:").replace(b"\ndata: ", b"\ndata:  ")


def control_event(next_offset: str, cursor: str | None, up_to_date: bool, closed: bool) -> bytes:
    """The control event after the data before ``next_offset``; ``closed`` is the end of the stream and the events."""
    fields = f'{{"streamNextOffset":"{next_offset}"'
    if not closed and cursor is not None:
        fields += f',"streamCursor":"{cursor}"'
    if up_to_date:
        fields += ',"upToDate":true'
    if closed:
        fields += ',"streamClosed":true'
    return f"event: control\ndata:{fields}}}\nid: {next_offset}\n\n".encode("ascii")


def retry_event(delay_ms: int) -> bytes:
    """Tells an ``EventSource`` how long to wait before it connects again; no event for the page."""
    return b"retry: %d\n\n" % delay_ms


def text_end(data: bytes, *, is_complete: bool) -> tuple[int, bool]:
    """How many leading bytes are whole UTF-8 characters, and whether those behind them may become one with more.

    ``is_complete``: no more will come.
    """
    if data.isascii():
        return len(data), False
    try:
        _, end = utf_8_decode(data, "strict", is_complete)
    except UnicodeDecodeError as exc:
        return exc.start, False
    return end, end < len(data)
