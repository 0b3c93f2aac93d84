"""What became of a request that was not refused."""

from __future__ import annotations

from dataclasses import dataclass

from durable_streams.protocol.requests import AddFork, RemoveFork
from durable_streams.protocol.state import ProducerState, StreamState


@dataclass(frozen=True, slots=True)
class Created:
    """``existed``: the stream was there already with the same configuration (200 instead of 201)."""

    state: StreamState
    existed: bool


@dataclass(slots=True)
class Appended:
    """``duplicate``: the producer had sent this before, or the stream was closed already; nothing changed."""

    state: StreamState
    """The stream after it."""
    producer: ProducerState | None
    has_data: bool
    duplicate: bool = False

    @property
    def tail(self) -> int:
        return self.state.tail

    @property
    def closed(self) -> bool:
        return self.state.closed


@dataclass(frozen=True, slots=True)
class Removed:
    """``state`` is what the stream was; ``retained``: soft-deleted, because forks still read it."""

    state: StreamState
    retained: bool
    released: StreamState | None = None
    """The source that was released with it, as it is now; None when it is gone, or was not released with it."""
    then: RemoveFork | None = None
    """The release that is still to be done, where it could not be done with it."""


@dataclass(frozen=True, slots=True)
class Done:
    """An internal step was carried out; ``state`` is the stream after it, or None when the stream has gone."""

    state: StreamState | None


Outcome = Created | Appended | Removed | Done
SourceStep = AddFork | RemoveFork


@dataclass(slots=True)
class Decision:
    """A new state (None: the stream goes), the bytes that are appended with it, and the answer.

    Nothing is to be written when ``state`` is the very object that was decided on.
    """

    state: StreamState | None
    data: bytes
    outcome: Outcome
    then: SourceStep | None = None
    """What happens to the source of a fork with this step: together where both can be committed as one."""
    entries: tuple[str, ...] = ()
    """Ids of the producers, and uids of the forks, whose entries in ``state`` are other ones than before."""
