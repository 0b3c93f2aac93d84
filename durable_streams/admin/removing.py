"""Ending streams by hand: one, or all below a prefix, which is counted first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gevent.pool import Pool

from durable_streams.admin.describing import Json
from durable_streams.admin.inventory import Inventory
from durable_streams.admin.turns import Turns
from durable_streams.protocol.errors import BadRequest, Conflict, NotFound, ProtocolError, StreamGone
from durable_streams.protocol.requests import Append
from durable_streams.protocol.state import StreamState
from durable_streams.service import StreamService

MATCHED_MAX: Final = 100_000
"""Streams of one deletion by prefix; where there are more, it is repeated."""
NAMES_AT_ONCE: Final = 1000
REMOVALS_AT_ONCE: Final = 64
"""They share commits."""
FAILURES_TOLD_MAX: Final = 100


class CountChanged(Conflict):
    """Streams have come or gone since they were counted, so nothing is removed."""

    type, title, code = "/errors/count-changed", "Count Changed", "COUNT_CHANGED"

    def __init__(self, confirmed: int, matched: int) -> None:
        super().__init__(f"{confirmed} streams were confirmed and {matched} match now: look again")


class Remover:
    """Closes and deletes streams of one service."""

    def __init__(self, service: StreamService, inventory: Inventory) -> None:
        self._store = service.store
        self._inventory = inventory

    def close(self, name: str) -> None:
        """Nothing more can be appended (section 5.3). Closing twice is harmless. Raises StreamNotFound, StreamGone."""
        self._store.append(Append(name, None, b"", True, None, None, None))

    def remove(self, name: str) -> None:
        """Section 5.4; raises StreamNotFound or StreamGone."""
        self._store.remove(name)

    def remove_all(self, prefix: str, confirmed: int | None) -> Json:
        """Delete every stream whose name starts with ``prefix``, if there are exactly ``confirmed`` of them.

        None: only say how many there are, in streams and bytes. ``more``: there are more than one deletion takes.
        Raises BadRequest for an empty prefix, and CountChanged.
        """
        if not prefix:
            raise BadRequest("prefix must not be empty")
        matched = self._matching(prefix)
        document: Json = {
            "prefix": prefix,
            "dry_run": confirmed is None,
            "matched": len(matched),
            "bytes": sum(matched.values()),
            "more": len(matched) == MATCHED_MAX,
        }
        if confirmed is None:
            return document
        if confirmed != len(matched):
            raise CountChanged(confirmed, len(matched))
        failures = self._remove_each(list(matched))
        document["deleted"] = len(matched) - len(failures)
        document["failed"] = dict(list(failures.items())[:FAILURES_TOLD_MAX])
        return document

    def _matching(self, prefix: str) -> dict[str, int]:
        """Names and own bytes of the streams that a deletion would end; damaged ones, and deleted ones, are not."""
        found: dict[str, int] = {}
        turns = Turns()
        for names in self._names(prefix):
            for name, state in self._inventory.look_up(names):
                turns()
                if isinstance(state, StreamState) and not state.deleted:
                    found[name] = state.own_bytes
                    if len(found) == MATCHED_MAX:
                        return found
        return found

    def _names(self, prefix: str) -> Iterator[list[str]]:
        after = ""
        while names := self._store.names(prefix, after, NAMES_AT_ONCE):
            yield names
            after = names[-1]

    def _remove_each(self, names: list[str]) -> dict[str, str]:
        """Why streams could not be removed, by their names. One that has gone meanwhile is no failure."""
        failures: dict[str, str] = {}

        def remove(name: str) -> None:
            try:
                self._store.remove(name)
            except (NotFound, StreamGone):
                pass
            except ProtocolError as error:
                failures[name] = error.detail

        pool = Pool(REMOVALS_AT_ONCE)
        for name in names:
            # Waits for a place, so the loop goes on after so many.
            pool.spawn(remove, name)
        pool.join()
        return failures
