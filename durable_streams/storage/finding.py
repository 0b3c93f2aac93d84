"""What is recorded now of a stream. A shared storage is asked once for all who ask in one turn of the event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import gevent
from gevent.event import AsyncResult

from durable_streams.protocol.errors import StreamDamaged
from durable_streams.protocol.state import StreamState
from durable_streams.storage.contract import Found, Storage

Find = Callable[[str], StreamState | None]
"""The state of a stream as recorded now. Raises StreamDamaged, or Unavailable."""


def finder(storage: Storage) -> Find:
    """How one stream is looked up; a storage of one process needs no question."""
    return GroupedFinder(storage).find if storage.shared else storage.known


class GroupedFinder:
    """Collects the names that greenlets ask for until the loop has run them all, then asks the storage once.

    A name that is asked for after the question has been sent waits for the next one: its answer must be newer.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._asked: dict[str, AsyncResult[Found]] = {}
        """Of the question that has not been sent yet."""

    def find(self, name: str) -> StreamState | None:
        answer = self._asked.get(name)
        if answer is None:
            if not self._asked:
                gevent.spawn(self._ask)
            answer = self._asked[name] = AsyncResult()
        found = cast(Found, answer.get())
        if isinstance(found, StreamDamaged):
            raise found
        return found

    def _ask(self) -> None:
        asked, self._asked = self._asked, {}
        try:
            found = self._storage.find(asked)
            for name, answer in asked.items():
                answer.set(found[name])
        except Exception as exc:
            # Every caller gets the error; nobody waits for this greenlet.
            for answer in asked.values():
                if not answer.ready():
                    answer.set_exception(exc)
