"""The offset of an append in its messages: ``headers.offset`` of the State Protocol, in streams that ask for it.

A message gets one if it is an object whose ``headers`` have an ``operation`` or a ``control`` and no ``offset`` of
their own. The offset is that of the stream's end after the append, which is known only when the append is decided. All
offsets are of one length, so a body is given *places* before, and the decision, which can tell where it will end, fills
them: what lies in the stream is what readers get, and reads cost nothing.

The text of a message is not encoded anew: the member is put in first place into its ``headers``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from durable_streams.protocol.errors import InvalidJson
from durable_streams.protocol.messages.framing import MESSAGE_END
from durable_streams.protocol.offsets import OFFSET_LENGTH

MESSAGE_BYTES_MAX: Final = 128 * 1024
"""A longer message is left as it is: the costliest kind of this length takes 7 ms, in one piece."""

_RUN_BYTES: Final = 16 * 1024
"""About how much is looked at before a turn; a run has whole messages."""
_PLACE: Final = b"\0"
"""No JSON text has a NUL. A single byte is found three times as fast as a place of the full length."""
_MEMBER: Final = b'"offset":"%b",' % _PLACE
_ABSENT: Final = msgspec.Raw(b"")
_USUAL: Final = b'"headers":{'
_ESCAPE: Final = b"\\"
"""Another spelling of a name has one."""


class _Message(msgspec.Struct):
    headers: msgspec.Raw = _ABSENT


class _Headers(msgspec.Struct):
    operation: msgspec.Raw = _ABSENT
    control: msgspec.Raw = _ABSENT
    offset: msgspec.Raw = _ABSENT


_message = msgspec.json.Decoder(_Message).decode
_headers = msgspec.json.Decoder(_Headers).decode


@dataclass(frozen=True, slots=True)
class Unfilled:
    """Stored messages that lack their offset, of the length that they will have with it."""

    text: bytes
    places: int

    def __len__(self) -> int:
        return len(self.text) + self.places * (OFFSET_LENGTH - len(_PLACE))

    def fill(self, offset: str) -> bytes:
        return self.text.replace(_PLACE, offset.encode())


def to_unfilled(runs: Iterable[bytes], length: int) -> Unfilled:
    """What ``with_places`` gives for stored messages of ``length`` bytes, as one."""
    text = b"".join(runs)
    # To count them in 14 MB takes 10 ms.
    return Unfilled(text, (len(text) - length) // len(_MEMBER))


def with_places(stored: bytes) -> Iterator[bytes]:
    """Whole stored messages with places for the offset, in runs that each take a few milliseconds at most.

    Raises InvalidJson for a message that is nested too deeply to be looked at.
    """
    start = 0
    while start < len(stored):
        end = stored.rfind(MESSAGE_END, start, start + _RUN_BYTES) + 1
        if not end:
            end = stored.index(MESSAGE_END, start) + 1
        run = stored[start:end]
        yield _run_with_places(run) if _may_have_headers(run) else run
        start = end


def _run_with_places(run: bytes) -> bytes:
    return MESSAGE_END.join([_with_place(message) for message in run.split(MESSAGE_END)])


def _may_have_headers(text: bytes) -> bool:
    return _USUAL in text or _ESCAPE in text


def _with_place(message: bytes) -> bytes:
    if not _may_have_headers(message) or len(message) > MESSAGE_BYTES_MAX:
        return message
    seen = _without_surrogates(message)
    try:
        headers = _headers_of(seen)
    except RecursionError:
        raise InvalidJson("nested too deeply") from None
    if headers is None:
        return message
    at = _find(seen, headers)
    return b"".join((message[:at], _MEMBER, message[at:]))


def _without_surrogates(message: bytes) -> bytes:
    """A text of the same length and structure in which msgspec finds no lone surrogate, which it refuses.

    An escape that names one becomes another one, and neither is in the names that count.
    """
    return message.replace(rb"\ud", rb"\u0").replace(rb"\uD", rb"\u0")


def _headers_of(message: bytes) -> bytes | None:
    """The text of the ``headers`` that are to get an offset; None where there are none."""
    try:
        text = bytes(_message(message).headers)
        members = _headers(text)
    except msgspec.MsgspecError:
        # One of the two is no object, or is not there.
        return None
    is_change = members.operation is not _ABSENT or members.control is not _ABSENT
    return text if is_change and members.offset is _ABSENT else None


def _find(message: bytes, headers: bytes) -> int:
    """Where the members of the message's own ``headers`` begin; other values in it may have the same text."""
    value = b":" + headers
    parts = message.split(value)
    index = 0 if len(parts) == 2 else _ask(parts, headers)
    return sum(map(len, parts[: index + 1])) + index * len(value) + len(b":{")


def _ask(parts: list[bytes], headers: bytes) -> int:
    """Which of the values of that text, which stand between ``parts``, a parser takes: it is given them with numbers.

    So it decides on names that are escaped, or that an object has twice, as it does for those who read the message.
    """
    members = headers[1:]
    numbered = [parts[0]]
    for number, part in enumerate(parts[1:]):
        numbered += (b':{"offset":%d,' % number, members, part)
    taken: Any = _headers(_message(b"".join(numbered)).headers)
    return int(bytes(taken.offset))
