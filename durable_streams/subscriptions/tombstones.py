"""What is left of a deleted subscription: its generation, for one that is created with the same id (section 6.3).

Tokens of the old one must stay worthless, so generations go on. A tombstone goes itself when no token can be as old,
and, where very many are deleted, when there are too many.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final, NamedTuple

from durable_streams.protocol.errors import DocumentChanged
from durable_streams.protocol.subscriptions.events import Deleted
from durable_streams.streams.internal.histories import Histories, Version

KEPT_S: Final = 30 * 86_400.0
KEPT_MAX: Final = 10_000
INTERVAL_S: Final = 600.0
"""Between two times that old ones are cleared."""


class Tombstone(NamedTuple):
    generation: int
    at: float
    """When it was deleted, in seconds since 1970."""
    version: Version
    """Of the history, which holds nothing else."""


class Tombstones:
    """Those that this process knows, by id."""

    def __init__(self, histories: Histories, folder: str) -> None:
        """``folder``: what the keys of their histories begin with."""
        self._histories = histories
        self._folder = folder
        self._all: dict[str, Tombstone] = {}
        self.due_at = 0.0
        """When old ones are to be cleared next, if there are any."""

    def __len__(self) -> int:
        return len(self._all)

    def note(self, subscription_id: str, deleted: Deleted, version: Version) -> None:
        self._all[subscription_id] = Tombstone(deleted.generation, deleted.at, version)

    def get(self, subscription_id: str) -> Tombstone | None:
        return self._all.get(subscription_id)

    def forget(self, subscription_id: str) -> None:
        """A subscription of that id has been created."""
        self._all.pop(subscription_id, None)

    def clear_old(self, now: float, limit: int = 100) -> None:
        """Remove up to ``limit`` that are no longer needed; raises what a storage that cannot write raises."""
        self.due_at = now + INTERVAL_S
        spare = len(self._all) - KEPT_MAX
        oldest = sorted(self._all.items(), key=lambda item: item[1].at)[:limit]
        for index, (subscription_id, tombstone) in enumerate(oldest):
            if index >= spare and now < tombstone.at + KEPT_S:
                return
            # Another process may have created it again.
            with suppress(DocumentChanged):
                self._histories.remove(self._folder + subscription_id, tombstone.version)
            self._all.pop(subscription_id, None)
