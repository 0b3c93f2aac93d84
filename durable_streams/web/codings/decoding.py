"""Request bodies without their content coding, in which a few bytes may stand for any number."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

import brotli
import zstandard

from durable_streams.eventloop.threads import in_thread
from durable_streams.protocol.errors import InvalidBody, RequestBodyTooLarge, UnsupportedCoding
from durable_streams.web.codings.compression import CODINGS, GZIP_WINDOW

DECODED: Final = (*CODINGS, "br")
"""What a request body may be coded in. Responses are never in br: at the speed of zstd it is 4 % smaller."""
BROTLI_PIECE_BYTES: Final = 256 * 1024
"""Brotli doubles its buffers up to its limit: a limit of 10 MiB lets 16 MiB through."""
ZSTD_WINDOW_BYTES_MAX: Final = 8 * 1024 * 1024
"""RFC 9659: no more may be asked of whoever decodes a content coding."""


def decode_body(body: bytes, codings: str, bytes_max: int) -> bytes:
    """``body`` decoded in a thread, at most ``bytes_max`` bytes of it.

    Raises UnsupportedCoding, RequestBodyTooLarge beyond ``bytes_max``, and InvalidBody for what is not so coded.
    """
    names = [
        name for name in (part.strip(" \t").lower() for part in codings.split(",")) if name != "identity"
    ]
    if not names or not body:
        return body
    if len(names) > 1 or names[0] not in _DECODE:
        raise UnsupportedCoding(codings, ", ".join(DECODED))
    try:
        decoded = in_thread(_DECODE[names[0]], body, bytes_max + 1)
    except (zlib.error, zstandard.ZstdError, brotli.error, EOFError) as exc:
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
    return _inflate(body, most, GZIP_WINDOW)


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


def _unbrotli(body: bytes, most: int) -> bytes:
    """Brotli has no members, so bytes behind its end are an error."""
    decompressor = brotli.Decompressor()
    decoded = [decompressor.process(body, output_buffer_limit=BROTLI_PIECE_BYTES)]
    most -= len(decoded[-1])
    while most > 0 and not decompressor.is_finished():
        piece = decompressor.process(b"", output_buffer_limit=BROTLI_PIECE_BYTES)
        if not piece:
            raise EOFError("it ends too early")
        decoded.append(piece)
        most -= len(piece)
    return b"".join(decoded)


_DECODE: Final[dict[str, Callable[[bytes, int], bytes]]] = {
    "zstd": _unzstd,
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "deflate": _inflate,
    "br": _unbrotli,
}
