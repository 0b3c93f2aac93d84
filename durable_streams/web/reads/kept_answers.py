"""Answers to catch-up reads that are given again while their stream is as it was.

Many readers ask for the same place, and ask again: then a read is a look-up. Only what is small and the same for all
who ask so is kept. Compressed pages are kept elsewhere, with what they cost to make.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from durable_streams.protocol.state import NO_EXPIRY, StreamState
from durable_streams.web.response import Response

ANSWERS_KEPT: Final = 1024
BODY_BYTES_MAX: Final = 4096
"""So all answers take about 8 MB at most; of a longer one, sending is what costs."""
VALUE_CHARACTERS_MAX: Final = 256
"""Of the query and of each header in a key."""

Key = tuple[str, str | None, str | None, str | None]


def key_of(name: str, environ: Mapping[str, Any]) -> Key:
    """All that the answer to a read depends on, beside the state of its stream."""
    get = environ.get
    return name, get("QUERY_STRING"), get("HTTP_ACCEPT_ENCODING"), get("HTTP_IF_NONE_MATCH")


class KeptAnswers:
    """The answers of one application; whoever came first goes first."""

    def __init__(self) -> None:
        self._kept: dict[Key, tuple[StreamState, Response]] = {}

    def find(self, key: Key, state: StreamState) -> Response | None:
        """The answer that was kept for this very ``state``; it must not be changed."""
        kept = self._kept.get(key)
        return kept[1] if kept is not None and kept[0] is state else None

    def keep(self, key: Key, state: StreamState, response: Response) -> None:
        """Keep ``response``, unless it is large or compressed, changes with time, or touches a sliding window."""
        body = response.body
        if not isinstance(body, bytes) or len(body) > BODY_BYTES_MAX or state.config.expiry is not NO_EXPIRY:
            return
        if any(len(value) > VALUE_CHARACTERS_MAX for value in key[1:] if value):
            return
        if any(name == "Content-Encoding" for name, _ in response.headers):
            return
        kept = self._kept
        if key not in kept and len(kept) >= ANSWERS_KEPT:
            del kept[next(iter(kept))]
        kept[key] = state, response
