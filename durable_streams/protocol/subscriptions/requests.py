"""What can be asked of a subscription, by clients and by the dispatcher.

What a decision needs from chance or from a secret is drawn before and stands in the request, so that deciding is pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from durable_streams.protocol.state import StreamState
from durable_streams.protocol.subscriptions.config import Wanted


@dataclass(frozen=True, slots=True)
class Situation:
    """The moment of a decision, and the streams as they are at it."""

    now: float
    """Seconds since 1970, of a clock that does not jump."""
    stream: Callable[[str], StreamState | None]
    """A stream that clients can read, by its path."""
    behind: Mapping[str, StreamState]
    """The linked streams that are pending, those first that have been so for longest."""
    offset_at: Callable[[StreamState, int], str]
    position_of: Callable[[StreamState, str], int]
    """Raises a ProtocolError for text that is no offset of the stream."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a bearer token says, its signature and its age having been checked."""

    subscription_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class Confirm:
    """PUT of a subscription that is there (section 6.2)."""

    wanted: Wanted


@dataclass(frozen=True, slots=True)
class Delete:
    """Section 6.3."""


@dataclass(frozen=True, slots=True)
class AddStreams:
    """Section 6.4. ``links_max``: how many links the subscription may have then."""

    paths: tuple[str, ...]
    links_max: int


@dataclass(frozen=True, slots=True)
class RemoveStream:
    path: str


@dataclass(frozen=True, slots=True)
class Claim:
    """Section 7.2. ``wake_id`` is for a wake that has to be made."""

    worker: str
    wake_id: str


@dataclass(frozen=True, slots=True)
class Ack:
    """An ack of pull-wake, or a webhook's callback (sections 7.1 and 7.2). Offsets are text."""

    grant: Grant
    wake_id: str
    generation: int
    acks: tuple[tuple[str, str], ...] = ()
    done: bool = False
    callback: bool = False


@dataclass(frozen=True, slots=True)
class Release:
    grant: Grant
    wake_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class WakeUp:
    """Make a wake of what is pending, if there is none in flight."""

    wake_id: str


@dataclass(frozen=True, slots=True)
class Expire:
    """End a lease whose time has come."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A delivery of this wake is about to be made."""

    wake_id: str


@dataclass(frozen=True, slots=True)
class Succeed:
    """A webhook was answered with 2xx (``done``: and its worker has finished), or a wake event was appended."""

    wake_id: str
    done: bool
    began_at: float


@dataclass(frozen=True, slots=True)
class Fail:
    """A delivery, or the burial of a condemned wake, has failed; ``chance`` is between 0 and 1."""

    wake_id: str
    error: str
    chance: float = field(default=0.5)


@dataclass(frozen=True, slots=True)
class Bury:
    """The dead letter of a condemned wake has been written."""

    wake_id: str


Request = (
    Confirm
    | Delete
    | AddStreams
    | RemoveStream
    | Claim
    | Ack
    | Release
    | WakeUp
    | Expire
    | Attempt
    | Succeed
    | Fail
    | Bury
)
