"""Compressed reads: zstd, gzip or deflate for clients that accept one; heavy work runs in a thread.

A range of a stream never changes, so whether a body is compressible depends on the range alone, and bodies too small
for it need no ``Vary``. What it is compressed to is kept (`pages`) when several ask for it. Event streams are
compressed only when a setting asks for it: every event is then flushed.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from functools import lru_cache
from typing import Final

import zstandard
from gevent.lock import BoundedSemaphore
from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header

from durable_streams.eventloop.threads import in_thread
from durable_streams.web.codings.pages import PageCache
from durable_streams.web.response import Environ, Response

BODY_BYTES_MIN: Final = 1024
COMPRESSED_IN_LOOP_BYTES_MAX: Final = 16 * 1024
"""Compressing this much takes 0.1 ms; handing it to a thread takes 0.05 ms."""
GZIP_LEVEL: Final = 6
ZSTD_LEVEL: Final = 3
ZSTD_PAGES: Final = zstandard.ZstdCompressionParameters.from_level(ZSTD_LEVEL)
ZSTD_EVENTS: Final = zstandard.ZstdCompressionParameters.from_level(
    ZSTD_LEVEL, window_log=16, hash_log=14, chain_log=13
)
"""An event stream keeps its compressor for as long as it lives: 0.4 MB of tables, as with gzip, in place of 1.3 MB."""
GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
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
Compressor = tuple[Callable[[bytes], bytes], Callable[[], bytes], Callable[[], bytes]]
"""Compress, flush, finish."""
VARY: Final = ("Vary", "Accept-Encoding")


class Compression:
    """Compresses what clients accept, ``at_once`` bodies or pieces at the same time; others wait for their turn."""

    def __init__(self, reads: bool, events: bool, at_once: int, pages: PageCache) -> None:
        """``reads`` and ``events``: the settings ``http.compression`` and ``http.compress_sse``."""
        self._reads = reads
        self._events = reads and events
        self._slots = BoundedSemaphore(at_once)
        self._pages = pages

    def applies(self, media_type: str, body_bytes: int) -> bool:
        """Whether clients that accept a coding get one for such a body."""
        return self._reads and body_bytes >= BODY_BYTES_MIN and not media_type.startswith(_COMPRESSED_ALREADY)

    def choose(self, environ: Environ) -> str | None:
        """One of CODINGS or None, as the client prefers; the first of them on a tie."""
        accepted: str | None = environ.get("HTTP_ACCEPT_ENCODING")
        return _best_coding(accepted) if accepted else None

    def of_body(self, response: Response, coding: str | None, tag: str | None) -> Response:
        """``response`` with its body, if any, in ``coding``, and with ``Vary``; ``tag`` names the coded body."""
        response.headers.append(VARY)
        body = response.body
        if coding is None or tag is None or not body:
            return response
        response.headers.append(("Content-Encoding", coding))
        kept = self._pages.ask(tag)
        if kept is not None:
            response.body = kept
        elif isinstance(body, bytes):
            response.body = self._whole(body, coding, tag)
        else:
            coded = self._coded(body, _piece_compressor(coding), flushes=False)
            response.body, response.length = self._recorded(coded, tag), None
        return response

    def _whole(self, body: bytes, coding: str, tag: str) -> bytes:
        with self._slots:
            # Of many who ask at once the first has done the work for all.
            page = self._pages.find(tag)
            if page is None:
                page = in_thread(_COMPRESS[coding], body)
                self._pages.keep(tag, page)
            return page

    def _recorded(self, pieces: Generator[bytes], tag: str) -> Generator[bytes]:
        """``pieces`` as they are; they are kept when all have been sent."""
        with closing(pieces):
            recording = self._pages.record(tag)
            if recording is None:
                yield from pieces
                return
            with recording:
                for piece in pieces:
                    recording.add(piece)
                    yield piece
                recording.keep()

    def choose_for_events(self, environ: Environ) -> str | None:
        """The coding of an event stream, if the setting and the client allow one."""
        return self.choose(environ) if self._events else None

    def of_events(self, response: Response, coding: str | None) -> Response:
        """``response`` with every event of its body compressed and flushed."""
        if coding is not None and not isinstance(response.body, bytes):
            response.headers += [VARY, ("Content-Encoding", coding)]
            response.body = self._coded(response.body, _piece_compressor(coding, ZSTD_EVENTS), flushes=True)
        return response

    def _coded(self, pieces: Iterable[bytes], compressor: Compressor, *, flushes: bool) -> Generator[bytes]:
        """``flushes``: whoever reads has each piece as soon as it is there."""
        compress, flush, finish = compressor

        def encoded(piece: bytes) -> bytes:
            return compress(piece) + flush() if flushes else compress(piece)

        try:
            for piece in pieces:
                yield (
                    encoded(piece)
                    if len(piece) <= COMPRESSED_IN_LOOP_BYTES_MAX
                    else self._beside(encoded, piece)
                )
            yield finish()
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()

    def _beside(self, function: Callable[[bytes], bytes], piece: bytes) -> bytes:
        with self._slots:
            return in_thread(function, piece)


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


def _piece_compressor(
    coding: str, parameters: zstandard.ZstdCompressionParameters = ZSTD_PAGES
) -> Compressor:
    if coding != "zstd":
        window = GZIP_WINDOW if coding == "gzip" else zlib.MAX_WBITS
        deflate = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, window)
        return deflate.compress, lambda: deflate.flush(zlib.Z_SYNC_FLUSH), deflate.flush
    frame = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return frame.compress, lambda: frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK), frame.flush
