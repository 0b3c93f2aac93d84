"""Compressed reads: zstd, gzip or deflate for clients that accept one; heavy work runs in a thread.

A range of a stream never changes, so whether a body is compressible depends on the range alone, and bodies too small
for it need no ``Vary``. Event streams are compressed only when a setting asks for it: every event is then flushed.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Final

import zstandard
from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header

from durable_streams.eventloop.threads import in_thread
from durable_streams.protocol.errors import InvalidBody, RequestBodyTooLarge, UnsupportedCoding
from durable_streams.web.response import Environ, Response

BODY_BYTES_MIN: Final = 1024
COMPRESSED_IN_LOOP_BYTES_MAX: Final = 16 * 1024
"""Compressing this much takes 0.1 ms; handing it to a thread takes 0.05 ms."""
GZIP_LEVEL: Final = 6
ZSTD_LEVEL: Final = 3
ZSTD_WINDOW_BYTES_MAX: Final = 8 * 1024 * 1024
"""RFC 9659: no more may be asked of whoever decodes a content coding."""
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_COMPRESSED_ALREADY: Final = (
    "image/",
    "audio/",
    "video/",
    "application/zip",
    "application/gzip",
    "application/zstd",
)
CODINGS: Final = ("zstd", "gzip", "deflate")
"""The server's order of preference: zstd takes a fifth of gzip's time for the same size."""
VARY: Final = ("Vary", "Accept-Encoding")


class Compression:
    """The two settings of ``http.compression`` and ``http.compress_sse``."""

    def __init__(self, reads: bool, events: bool) -> None:
        self._reads = reads
        self._events = reads and events

    def applies(self, media_type: str, body_bytes: int) -> bool:
        """Whether clients that accept a coding get one for such a body."""
        return self._reads and body_bytes >= BODY_BYTES_MIN and not media_type.startswith(_COMPRESSED_ALREADY)

    def choose(self, environ: Environ) -> str | None:
        """One of CODINGS or None, as the client prefers; the first of them on a tie."""
        accepted: str | None = environ.get("HTTP_ACCEPT_ENCODING")
        return _best_coding(accepted) if accepted else None

    def of_body(self, response: Response, coding: str | None) -> Response:
        """``response`` with its body, if any, in ``coding``, and with ``Vary``."""
        response.headers.append(VARY)
        body = response.body
        if coding is None or not body:
            return response
        response.headers.append(("Content-Encoding", coding))
        if isinstance(body, bytes):
            response.body = in_thread(_COMPRESS[coding], body)
        else:
            response.body, response.length = _compressed(body, coding, flushes=False), None
        return response

    def choose_for_events(self, environ: Environ) -> str | None:
        """The coding of an event stream, if the setting and the client allow one."""
        return self.choose(environ) if self._events else None

    def of_events(self, response: Response, coding: str | None) -> Response:
        """``response`` with every event of its body compressed and flushed."""
        if coding is not None and not isinstance(response.body, bytes):
            response.headers += [VARY, ("Content-Encoding", coding)]
            response.body = _compressed(response.body, coding, flushes=True)
        return response


@lru_cache(maxsize=256)
def _best_coding(accepted: str) -> str | None:
    best = parse_accept_header(accepted, Accept).best_match([*CODINGS, "identity"])
    return None if best == "identity" else best


def _gzip(body: bytes) -> bytes:
    return gzip.compress(body, GZIP_LEVEL, mtime=0)


def _deflate(body: bytes) -> bytes:
    """The zlib format, as RFC 9110 section 8.4.1.2 has it, and not bare deflate."""
    return zlib.compress(body, GZIP_LEVEL)


def _zstd(body: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(body)


_COMPRESS: Final[dict[str, Callable[[bytes], bytes]]] = {"zstd": _zstd, "gzip": _gzip, "deflate": _deflate}


def decode_body(body: bytes, codings: str, bytes_max: int) -> bytes:
    """A request body without its content coding, in which a few bytes may stand for any number.

    Raises UnsupportedCoding, RequestBodyTooLarge beyond ``bytes_max``, and InvalidBody for what is not so coded.
    """
    names = [
        name for name in (part.strip(" \t").lower() for part in codings.split(",")) if name != "identity"
    ]
    if not names or not body:
        return body
    if len(names) > 1 or names[0] not in _DECODE:
        raise UnsupportedCoding(codings, ", ".join(CODINGS))
    try:
        decoded = in_thread(_DECODE[names[0]], body, bytes_max + 1)
    except (zlib.error, zstandard.ZstdError, EOFError) as exc:
        raise InvalidBody(f"the body is not {names[0]}: {exc}") from exc
    if len(decoded) > bytes_max:
        raise RequestBodyTooLarge(bytes_max)
    return decoded


def _inflate(body: bytes, most: int, window: int = zlib.MAX_WBITS) -> bytes:
    """At most ``most`` bytes; gzip may have several members one after the other."""
    decoded: list[bytes] = []
    while body and most > 0:
        inflating = zlib.decompressobj(window)
        decoded.append(inflating.decompress(body, most))
        most -= len(decoded[-1])
        if not inflating.eof and most > 0:
            raise EOFError("it ends too early")
        body = inflating.unused_data
    return b"".join(decoded)


def _gunzip(body: bytes, most: int) -> bytes:
    return _inflate(body, most, _GZIP_WINDOW)


def _unzstd(body: bytes, most: int) -> bytes:
    reader = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES_MAX).stream_reader(
        body, read_across_frames=True
    )
    decoded = reader.read(most)
    if len(decoded) < most:
        # The reader takes an end in the middle of a frame for the end of all.
        _check_frames(body)
    return decoded


def _check_frames(body: bytes) -> None:
    while body:
        frame = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES_MAX).decompressobj()
        frame.decompress(body)
        if not frame.eof:
            raise EOFError("it ends too early")
        body = frame.unused_data


_DECODE: Final[dict[str, Callable[[bytes, int], bytes]]] = {
    "zstd": _unzstd,
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "deflate": _inflate,
}


def _compressed(pieces: Iterable[bytes], coding: str, *, flushes: bool) -> Iterator[bytes]:
    """``flushes``: whoever reads has each piece as soon as it is there."""
    compress, flush, finish = _piece_compressor(coding)

    def encoded(piece: bytes) -> bytes:
        return compress(piece) + flush() if flushes else compress(piece)

    try:
        for piece in pieces:
            yield encoded(piece) if len(piece) <= COMPRESSED_IN_LOOP_BYTES_MAX else in_thread(encoded, piece)
        yield finish()
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()


def _piece_compressor(
    coding: str,
) -> tuple[Callable[[bytes], bytes], Callable[[], bytes], Callable[[], bytes]]:
    if coding != "zstd":
        window = _GZIP_WINDOW if coding == "gzip" else zlib.MAX_WBITS
        deflate = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, window)
        return deflate.compress, lambda: deflate.flush(zlib.Z_SYNC_FLUSH), deflate.flush
    frame = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compressobj()
    return frame.compress, lambda: frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK), frame.flush
