"""From the body of a request to stored messages (sections 9.1.2 and 9.1.4): checked, flattened by one level, compact.

White space between tokens goes, and every token stays as it was sent. msgspec checks and compacts a text without
building its values, and finds the elements of an array. A long body is taken in pieces (`cutting`), each of which costs
a few milliseconds at most and little memory; who needs turns in between takes them from `stored_pieces`.

msgspec refuses escapes of lone surrogates, which JSON allows: they are replaced while a piece is looked at.
"""

from __future__ import annotations

import re
from codecs import utf_8_decode
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from durable_streams.protocol.errors import InvalidJson, TooManyMessages
from durable_streams.protocol.messages.cutting import SPACE, Cut, Cutter, Piece
from durable_streams.protocol.messages.framing import MESSAGE_END

PIECE_BYTES: Final = 32 * 1024
"""A piece of the costliest kind, an array of digits, takes 4 ms and 2 MiB."""
NO_LIMIT: Final = 0

_TRUNCATED: Final = "Input data was truncated"
_TOKEN_BYTES_MAX: Final = 16
"""So far from the end of a text an error may be that of a token which is not whole yet."""
_POSITION = re.compile(r" \(byte (\d+)\)$")
_SURROGATE: Final = rb"u(?:[dD][89a-fA-F][0-9a-fA-F]{2}|0000)"
_ESCAPE = re.compile(rb"\\(%b|.)" % _SURROGATE, re.DOTALL)
_MAY_BE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_PLACEHOLDER: Final = rb"\u0000"
_elements: Callable[[bytes], list[Any]] = msgspec.json.Decoder(list[msgspec.Raw]).decode
_check: Callable[[bytes], object] = msgspec.json.Decoder(msgspec.Raw).decode


def to_messages(body: bytes, messages_max: int = NO_LIMIT) -> bytes:
    """The stored form of a JSON body, one level of array flattened; ``b""`` for an empty array.

    Raises InvalidJson for anything that is not one JSON text in UTF-8, and TooManyMessages.
    """
    if len(body) <= PIECE_BYTES:
        try:
            return _short_to_messages(body, messages_max)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            pass
    return b"".join(stored_pieces(body, messages_max))


def stored_pieces(body: bytes, messages_max: int = NO_LIMIT) -> Iterator[bytes]:
    """The same piece by piece, for bodies that must not be dealt with in one go."""
    splitter = _Splitter(body)
    while not splitter.is_done:
        yield splitter.step()
        if messages_max and splitter.messages > messages_max:
            raise TooManyMessages(messages_max)
    if splitter.messages:
        yield MESSAGE_END


def _short_to_messages(body: bytes, messages_max: int) -> bytes:
    """The same for the usual body, in one step; raises what msgspec raises."""
    if not body.isascii():
        utf_8_decode(body, "strict", True)
    if b" " in body or b"\n" in body or b"\t" in body or b"\r" in body:
        text = msgspec.json.format(body, indent=-1)
    else:
        text = body
    if not text.startswith(b"["):
        if text is body:
            _check(text)
        return text + MESSAGE_END
    messages: list[msgspec.Raw | bytes] = _elements(text)
    if messages_max and len(messages) > messages_max:
        raise TooManyMessages(messages_max)
    messages.append(b"")
    return MESSAGE_END.join(messages)


class _Splitter:
    """One body on its way to stored messages."""

    def __init__(self, body: bytes) -> None:
        self.messages = 0
        """How many have been found."""
        self._cutter = Cutter(body, PIECE_BYTES)
        self._guesses = True
        self._is_array = False

    @property
    def is_done(self) -> bool:
        return self._cutter.is_done

    def step(self) -> bytes:
        """What follows of the stored form, without the end of the last message; raises InvalidJson."""
        cutter = self._cutter
        guess = cutter.guess() if self._guesses else None
        if guess is not None:
            try:
                return self._take(guess)
            except InvalidJson:
                self._guesses = False
        piece = cutter.cut()
        if piece is None:
            _check_beginning(cutter.beginning, cutter.start, cutter.begin)
            return b""
        if piece.begin is None:
            self._is_array = piece.text.lstrip(SPACE)[:1] == b"["
        return self._take(piece)

    def _take(self, piece: Piece) -> bytes:
        stored, messages = _stored(piece, is_array=self._is_array)
        begin, end = piece.begin, piece.end
        # The first of a piece may be the rest of one that has been counted.
        self.messages += messages if begin is None or begin.between_messages else messages - 1
        self._cutter.accept(piece)
        if end is None or not end.at_comma:
            return stored
        return stored + (MESSAGE_END if self._is_array and end.between_messages else b",")


def _stored(piece: Piece, *, is_array: bool) -> tuple[bytes, int]:
    """The stored form of a piece, and how many messages it has a part of; raises InvalidJson."""
    begin, end = piece.begin, piece.end
    before = b"" if begin is None else begin.before
    after = b"" if end is None else end.after
    start = piece.start - len(before)
    _check_utf8(piece.text, piece.start)
    if piece.has_misplaced_comma:
        after = b"," + after
    text = before + piece.text + after
    keep = slice(len(before), -len(after) or None)
    try:
        return _without_space(text, keep, begin, is_array=is_array)
    except (msgspec.MsgspecError, RecursionError) as exc:
        if not _MAY_BE_SURROGATE.search(text):
            raise _refusal(exc, start) from None
    try:
        return _without_space_or_surrogates(text, keep, begin, is_array=is_array)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise _refusal(exc, start) from None


def _check_beginning(text: bytes, start: int, begin: Cut | None) -> None:
    """Raise InvalidJson when no text can begin like this, whatever follows."""
    before = b"" if begin is None else begin.before
    try:
        msgspec.json.format(before + text, indent=-1)
    except (msgspec.MsgspecError, RecursionError) as exc:
        found = _POSITION.search(str(exc))
        is_at_the_end = found is not None and int(found[1]) > len(before) + len(text) - _TOKEN_BYTES_MAX
        if is_at_the_end or str(exc) == _TRUNCATED or _MAY_BE_SURROGATE.search(text):
            return
        raise _refusal(exc, start - len(before)) from None


def _check_utf8(piece: bytes, start: int) -> None:
    if piece.isascii():
        return
    try:
        utf_8_decode(piece, "strict", True)
    except UnicodeDecodeError as exc:
        raise InvalidJson(f"not UTF-8 at byte {start + exc.start}") from None


def _without_space(text: bytes, keep: slice, begin: Cut | None, *, is_array: bool) -> tuple[bytes, int]:
    compact = msgspec.json.format(text, indent=-1)
    if not is_array:
        return compact[keep], 1
    messages: list[msgspec.Raw | memoryview] = _elements(compact)
    # The outermost bracket is none of a message's.
    if keep.stop is not None and keep.stop < -1:
        messages[-1] = memoryview(messages[-1])[: keep.stop + 1]
    if begin is not None:
        if begin.between_messages:
            del messages[0]
        else:
            messages[0] = memoryview(messages[0])[keep.start - 1 :]
    return MESSAGE_END.join(messages), len(messages)


def _without_space_or_surrogates(
    text: bytes, keep: slice, begin: Cut | None, *, is_array: bool
) -> tuple[bytes, int]:
    """The same for a text whose surrogate escapes are replaced while msgspec looks at it."""
    hidden: list[bytes] = []

    def hide(escape: re.Match[bytes]) -> bytes:
        if len(escape[0]) == len(_PLACEHOLDER):
            hidden.append(escape[0])
            return _PLACEHOLDER
        return escape[0]

    stored, count = _without_space(_ESCAPE.sub(hide, text), keep, begin, is_array=is_array)
    originals = iter(hidden)
    return _ESCAPE.sub(lambda e: next(originals) if len(e[0]) == len(_PLACEHOLDER) else e[0], stored), count


def _refusal(exc: Exception, start: int) -> InvalidJson:
    """What msgspec says of a text that begins at byte ``start`` of the body."""
    if isinstance(exc, RecursionError):
        return InvalidJson("nested too deeply")
    reason, where = str(exc).removeprefix("JSON is malformed: "), ""
    found = _POSITION.search(reason)
    if found is not None:
        reason, where = reason[: found.start()], f" at byte {start + int(found[1])}"
    return InvalidJson(reason[:1].lower() + reason[1:] + where)
