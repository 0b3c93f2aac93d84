"""Where a long JSON text may be cut, so that every piece can be checked and compacted by itself.

A cut is made at a comma between two tokens, or inside a token where there is no such comma for long. What was open at
the cut is opened again before the next piece, and closed behind this one: the text is valid exactly if every piece is,
in the brackets that are put around it. (A piece begins where the one before it ended outside a string, or inside one
that is known; if it is valid in its brackets, they are the ones that are really open.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from durable_streams.protocol.errors import InvalidJson

DEPTH_MAX: Final = 1000
"""Open brackets at a cut; the parsers give up earlier."""

_QUOTE, _BACKSLASH = b'"', b"\\"
SPACE: Final = b" \t\r\n"
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_CLOSING: Final = {ord("["): ord("]"), ord("{"): ord("}")}
_CLOSERS: Final = bytes.maketrans(b"[{", b"]}")
_DIGITS: Final = b"0123456789"
_DIGITS_MIN: Final = 3
"""Two stay before a cut, so that a zero that may not lead a number is seen there."""
_ESCAPE_BYTES_MAX: Final = 6
_QUICK_ROUNDS: Final = 4
_LAST_BYTES: Final = {b"{": b"}", b"[": b"]", _QUOTE: _QUOTE}


@dataclass(frozen=True, slots=True)
class Cut:
    """The state of a text between two of its bytes: right behind a comma, or inside a token."""

    open: bytes
    """The brackets that are open, from the outside in."""
    token: bytes = b""
    """What begins a token like the one that is cut: a quote, or a number; empty behind a comma."""
    in_key: bool = False
    """The token is the name of an object's member."""

    @property
    def before(self) -> bytes:
        """What has to stand before the text after the cut, without white space, to make it one text."""
        outer, inner = self.open[:-1].replace(b"{", b'{"":'), self.open[-1:]
        if self.in_key:
            return outer + inner + self.token
        if self.token:
            return outer + inner.replace(b"{", b'{"":') + self.token
        return outer + (b'{"":0,' if inner == b"{" else b"[0,")

    @property
    def after(self) -> bytes:
        """What has to stand behind the text before the cut (and before its comma) to make it one text."""
        quote = _QUOTE if self.in_string else b""
        return quote + (b":0" if self.in_key else b"") + self.open[::-1].translate(_CLOSERS)

    @property
    def in_string(self) -> bool:
        return self.token == _QUOTE

    @property
    def at_comma(self) -> bool:
        return not self.token

    @property
    def between_messages(self) -> bool:
        """In an array of messages: behind the comma that follows one."""
        return self.open == b"[" and self.at_comma


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text: what lies between two cuts, without the commas at them."""

    text: bytes
    start: int
    """Its first byte, counted in the whole text."""
    begin: Cut | None
    """None: it is the first."""
    end: Cut | None
    """None: it is the last."""

    @property
    def has_misplaced_comma(self) -> bool:
        """The comma of the cut behind it follows no value, or stands outside all brackets: with it, it is no JSON."""
        end = self.end
        if end is None or not end.at_comma:
            return False
        return not end.open or self.text.rstrip(SPACE)[-1:] in (b"[", b"{")


class Cutter:
    """Cuts one text from its start to its end: look at a piece, then ``accept`` it and look at the next."""

    def __init__(self, text: bytes, size: int) -> None:
        """``size``: about how many bytes a piece has."""
        self.is_done = False
        self.begin: Cut | None = None
        """The cut before the next piece."""
        self._text = text
        self._size = size
        self._wanted = size
        self._at = 0
        self._carried = b""
        """What lies before ``_at`` and belongs to the next piece, where white space behind it was left out."""
        self._guess = b""

    def guess(self) -> Piece | None:
        """The next piece as it probably is in an array of messages that are alike; valid, it is right."""
        begin = self.begin
        if begin is None or not begin.between_messages or self._carried or not self._goes_on:
            return None
        piece = self._text[self._at : self._at + self._size]
        if not self._guess:
            self._guess = _LAST_BYTES.get(piece.lstrip(SPACE)[:1], b"") + b","
        length = piece.rfind(self._guess) + len(self._guess) - 1
        return Piece(piece[:length], self._at, begin, begin) if length > 0 else None

    def cut(self) -> Piece | None:
        """The next piece; None while no place for a cut is found, which may be asked again.

        Raises InvalidJson for brackets that cannot be part of a JSON text.
        """
        begin, piece = self.begin, self.beginning
        if not self._goes_on:
            return Piece(piece, self.start, begin, None)
        found = _find_cut(piece, begin)
        if found is not None:
            length, end = found
            return Piece(piece[:length], self.start, begin, end)
        shorter = piece.rstrip(SPACE)
        if len(shorter) < len(piece) // 2 and not _ends_in_string(piece, begin):
            self._at += self._wanted
            self._wanted, self._carried = self._size, shorter + b" "
        else:
            self._wanted *= 2
        return None

    @property
    def beginning(self) -> bytes:
        """What is looked at: the next piece, and more of the text or the rest of it."""
        if not (self._at or self._carried or self._goes_on):
            return self._text
        return self._carried + self._text[self._at : self._at + self._wanted]

    @property
    def start(self) -> int:
        """Where the next piece begins in the text."""
        return self._at - len(self._carried)

    def accept(self, piece: Piece) -> None:
        """Go on behind ``piece``."""
        self._at += len(piece.text) - len(self._carried)
        end = piece.end
        if end is None:
            self.is_done = True
        elif end.at_comma:
            self._at += 1
        self.begin, self._wanted, self._carried = end, self._size, b""

    @property
    def _goes_on(self) -> bool:
        return len(self._text) - self._at > self._wanted


def _find_cut(piece: bytes, begin: Cut | None) -> tuple[int, Cut] | None:
    """The last place in ``piece``, which follows ``begin``, at which it may be cut.

    Returns how many bytes lie before the cut (without its comma), and the state there; None when there is no place.
    """
    parts = _parts(piece, begin)
    found = _last_comma(parts)
    if found is None:
        return _cut_in_token(piece, parts, begin)
    index, at = found
    outside = b"".join(parts[:index:2]) + parts[index][:at]
    length = sum(map(len, parts[:index])) + index + at
    if begin is not None and begin.in_string:
        length -= 1
    return length, Cut(_open_after(begin, outside))


def _parts(piece: bytes, begin: Cut | None) -> list[bytes]:
    """What lies outside of strings and inside of them, by turns."""
    parts = _without_escapes(piece).split(_QUOTE)
    return [b"", *parts] if begin is not None and begin.in_string else parts


def _ends_in_string(piece: bytes, begin: Cut | None) -> bool:
    return len(_parts(piece, begin)) % 2 == 0


def _without_escapes(piece: bytes) -> bytes:
    """The same length, and every quote that is left begins or ends a string."""
    if _BACKSLASH not in piece:
        return piece
    return piece.replace(b"\\\\", b"__").replace(b'\\"', b"__")


def _last_comma(parts: list[bytes]) -> tuple[int, int] | None:
    for index in range((len(parts) - 1) // 2 * 2, -1, -2):
        at = parts[index].rfind(b",")
        if at >= 0:
            return index, at
    return None


def _cut_in_token(piece: bytes, parts: list[bytes], begin: Cut | None) -> tuple[int, Cut] | None:
    # Too many brackets are refused here.
    opened = _open_after(begin, b"".join(parts[::2]))
    if len(parts) % 2:
        return _cut_in_number(piece, begin, opened)
    string = len(piece) - len(parts[-1])
    end = _end_of_character(piece, string)
    if end <= string:
        return None
    if len(parts) == 2 and begin is not None and begin.in_string:
        return end, begin
    last = b"".join(parts[::2]).rstrip(SPACE)[-1:] or (b"," if begin is not None and begin.at_comma else b"")
    return end, Cut(opened, _QUOTE, in_key=opened[-1:] == b"{" and last in b"{,")


def _cut_in_number(piece: bytes, begin: Cut | None, opened: bytes) -> tuple[int, Cut] | None:
    """Between the last two digits of a very long number."""
    digits = len(piece) - len(piece.rstrip(_DIGITS))
    if digits * 2 < len(piece) or digits < _DIGITS_MIN:
        return None
    if digits == len(piece) and begin is not None and begin.token:
        return digits - 1, begin
    sign = piece[:-digits][-2:].lower()
    token = b"0.0" if sign[-1:] == b"." else b"0e0" if b"e" in sign else b"1"
    return len(piece) - 1, Cut(opened, token)


def _end_of_character(piece: bytes, string: int) -> int:
    """The last position in a string that begins at ``string`` which is inside no escape and no character."""
    end = len(piece) - 3
    while end > string and piece[end] & 0xC0 == 0x80:
        end -= 1
    last = piece.rfind(_BACKSLASH, string, max(string, end))
    if last < 0 or end - last >= _ESCAPE_BYTES_MAX:
        return end
    begin = len(piece[string : last + 1].rstrip(_BACKSLASH)) + string
    # Two by two they are escaped backslashes; an odd one begins the escape that is avoided.
    return begin + (last + 1 - begin) // 2 * 2


def _open_after(begin: Cut | None, outside: bytes) -> bytes:
    """The brackets that are open after the text ``outside`` of strings."""
    brackets = (begin.open if begin is not None else b"") + outside.translate(None, _NO_BRACKETS)
    for _ in range(_QUICK_ROUNDS):
        shorter = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(shorter) == len(brackets):
            break
        brackets = shorter
    opened = bytearray()
    for bracket in brackets:
        if bracket in _CLOSING:
            opened.append(bracket)
        elif not opened or _CLOSING[opened.pop()] != bracket:
            raise InvalidJson("a bracket is closed that was not opened")
    if len(opened) > DEPTH_MAX:
        raise InvalidJson("nested too deeply")
    return bytes(opened)
