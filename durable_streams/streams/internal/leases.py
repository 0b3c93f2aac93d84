"""Leases: one holder at a time for a named task, over all processes that share a storage.

A lease ends by itself when its holder does not renew it, and somebody else may take it then. Each holder gets a
``generation`` that is higher than all before: a holder that was too slow to notice its end is *fenced* by it, when the
generation is part of what it writes. Processes compare their own clocks, which NTP has to keep together.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from durable_streams.protocol.errors import DocumentChanged, ProtocolError
from durable_streams.streams.internal.documents import Records
from durable_streams.streams.lives import new_uid

_FOLDER: Final = "leases/"

log = logging.getLogger("durable_streams.streams")


@dataclass(frozen=True, slots=True)
class Lease:
    """``holder`` may do the task ``name`` until ``expires_at`` (seconds since 1970)."""

    name: str
    holder: str
    generation: int
    expires_at: float


class Leases:
    """The leases of one storage."""

    def __init__(self, records: Records, clock: Callable[[], float]) -> None:
        """``records``: where all who compete for a lease find it."""
        self._records = records
        self._clock = clock

    def acquire(self, name: str, holder: str, seconds: float) -> Lease | None:
        """The lease for ``seconds`` from now, or None while somebody else holds it.

        Who holds it already gets it with the same generation. Raises StreamDamaged or Unavailable.
        """
        recorded, revision = self._load(name)
        now = self._clock()
        if recorded is not None and now < recorded.expires_at:
            if recorded.holder != holder:
                return None
            return self._save(replace(recorded, expires_at=now + seconds), revision)
        # The clock makes it grow also when the record before it is lost.
        generation = max(int(now * 1e6), recorded.generation + 1 if recorded else 0)
        return self._save(Lease(name, holder, generation, now + seconds), revision)

    def renew(self, lease: Lease, seconds: float) -> Lease | None:
        """``lease`` for ``seconds`` from now, or None when it has ended: the caller must stop its task."""
        recorded, revision = self._load(lease.name)
        now = self._clock()
        if recorded is None or recorded.generation != lease.generation or now >= recorded.expires_at:
            return None
        return self._save(replace(recorded, expires_at=now + seconds), revision)

    def release(self, lease: Lease) -> None:
        """Let somebody else have it at once; nothing happens when it has ended already."""
        recorded, revision = self._load(lease.name)
        if recorded is not None and recorded.generation == lease.generation:
            self._save(replace(recorded, expires_at=0.0), revision)

    def is_current(self, lease: Lease) -> bool:
        """Whether nobody has taken over since, and its time is not up."""
        recorded, _ = self._load(lease.name)
        return (
            recorded is not None
            and recorded.generation == lease.generation
            and self._clock() < recorded.expires_at
        )

    def _load(self, name: str) -> tuple[Lease | None, str | None]:
        document = self._records.load(_FOLDER + name)
        if document is None:
            return None, None
        holder, generation, expires_at = json.loads(document.body)
        return Lease(name, holder, generation, expires_at), document.revision

    def _save(self, lease: Lease, revision: str | None) -> Lease | None:
        """None when somebody else was faster."""
        body = json.dumps((lease.holder, lease.generation, lease.expires_at)).encode()
        try:
            self._records.save(_FOLDER + lease.name, body, revision)
        except DocumentChanged:
            return None
        return lease


class Leadership:
    """One process of several does a task as long as it lives; the others ask now and then whether it still does."""

    def __init__(self, leases: Leases, name: str, clock: Callable[[], float], lease_s: float = 15.0) -> None:
        """``lease_s``: how long the task rests at most when its process dies, in seconds."""
        self._leases = leases
        self._name = name
        self._clock = clock
        self._lease_s = lease_s
        self._holder = new_uid()
        self._lease: Lease | None = None
        self._ask_at = 0.0
        """When to ask for the lease, or to renew it (seconds since 1970)."""

    def leads(self) -> bool:
        """Whether this process does the task now; takes the lease when it is free, and renews it in time.

        Raises StreamDamaged or Unavailable.
        """
        now = self._clock()
        if now >= self._ask_at or (self._lease is not None and now >= self._lease.expires_at):
            self._lease = self._leases.acquire(self._name, self._holder, self._lease_s)
            self._ask_at = now + self._lease_s / 3
        return self._lease is not None

    def resign(self) -> None:
        """Let another process take over at once."""
        try:
            if self._lease is not None:
                self._leases.release(self._lease)
        except ProtocolError as exc:
            log.warning("the lease %r ends by itself: %r", self._name, exc)
