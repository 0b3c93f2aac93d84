"""Compressed pages that are kept for the next who asks for them.

The range of a stream that an entity tag names never changes, so neither does what it is compressed to: a page needs no
invalidation, and goes when others are used more. Most ranges are read once, by the one reader who was at their start;
so a page is kept from the second request on.
"""

from __future__ import annotations

from collections import OrderedDict
from types import TracebackType
from typing import Final

TAGS_REMEMBERED: Final = 1024
"""Tags of pages that are not kept, with how often they were asked for."""
PAGES_MIN: Final = 8
"""No page takes more than this part of the cache."""
RECORDINGS_MAX: Final = 4
"""Pages that are collected at once while they are sent: at most half as much again as the cache holds."""
ENTRY_BYTES: Final = 256
"""What a page takes beside its bytes."""


class PageCache:
    """Compressed pages by entity tag, at most ``bytes_max`` bytes of them; the least recently used goes first."""

    def __init__(self, bytes_max: int) -> None:
        """``bytes_max``: 0 keeps none."""
        self.total = 0
        self._bytes_max = bytes_max
        self.page_bytes_max = bytes_max // PAGES_MIN - ENTRY_BYTES
        self._pages: OrderedDict[str, bytes] = OrderedDict()
        self._asked: OrderedDict[str, int] = OrderedDict()
        self._recorded: set[str] = set()

    def ask(self, tag: str) -> bytes | None:
        """The page of ``tag``, if it is kept; counts the request if it is not."""
        page = self.find(tag)
        if page is None:
            self._asked[tag] = self._asked.pop(tag, 0) + 1
            if len(self._asked) > TAGS_REMEMBERED:
                self._asked.popitem(last=False)
        return page

    def find(self, tag: str) -> bytes | None:
        """The same for a request that has been counted."""
        page = self._pages.get(tag)
        if page is not None:
            self._pages.move_to_end(tag)
        return page

    def keep(self, tag: str, page: bytes) -> None:
        """Keep ``page`` if it has been asked for more than once, and is not too long."""
        if not self._wants(tag) or len(page) > self.page_bytes_max:
            return
        del self._asked[tag]
        self._pages[tag] = page
        self.total += len(page) + ENTRY_BYTES
        while self.total > self._bytes_max:
            self.total -= len(self._pages.popitem(last=False)[1]) + ENTRY_BYTES

    def record(self, tag: str) -> Recording | None:
        """Collects a page while it is sent, if it is wanted and nobody else does."""
        if not self._wants(tag) or tag in self._recorded or len(self._recorded) >= RECORDINGS_MAX:
            return None
        return Recording(self, tag, self._recorded)

    def _wants(self, tag: str) -> bool:
        return self.page_bytes_max > 0 and self._asked.get(tag, 0) > 1


class Recording:
    """The pieces of one page so far; given up when they are too many."""

    def __init__(self, cache: PageCache, tag: str, recorded: set[str]) -> None:
        """``recorded``: the tags of all pages that are being collected."""
        self._cache = cache
        self._tag = tag
        self._recorded = recorded
        self._pieces: list[bytes] = []
        self._bytes = 0

    def __enter__(self) -> Recording:
        self._recorded.add(self._tag)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._recorded.discard(self._tag)

    def add(self, piece: bytes) -> None:
        self._bytes += len(piece)
        if self._bytes <= self._cache.page_bytes_max:
            self._pieces.append(piece)
        else:
            self._pieces.clear()

    def keep(self) -> None:
        """All pieces have been sent."""
        if self._bytes <= self._cache.page_bytes_max:
            self._cache.keep(self._tag, b"".join(self._pieces))
