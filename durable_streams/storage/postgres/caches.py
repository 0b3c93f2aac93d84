"""Pages of payload that one process has read: the bytes of a uid at a position never change."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

PAGE_SHARE: Final = 8
"""No page takes more than this part of the cache."""


class PageCache:
    """Payload by (uid, start, stop), at most ``bytes_max`` bytes; 0 keeps nothing."""

    def __init__(self, bytes_max: int) -> None:
        self._pages: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()
        self._bytes_max = bytes_max
        self._bytes = 0

    def get(self, uid: str, start: int, stop: int) -> bytes | None:
        key = (uid, start, stop)
        page = self._pages.get(key)
        if page is not None:
            self._pages.move_to_end(key)
        return page

    def put(self, uid: str, start: int, stop: int, page: bytes) -> None:
        if len(page) * PAGE_SHARE > self._bytes_max or (uid, start, stop) in self._pages:
            return
        self._pages[uid, start, stop] = page
        self._bytes += len(page)
        while self._bytes > self._bytes_max:
            self._bytes -= len(self._pages.popitem(last=False)[1])
