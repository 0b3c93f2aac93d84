"""What a client can ask to be written, as values that are checked already where one header can be checked alone.

And the limits that a stream has while it is decided.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from durable_streams.protocol.caching import Precondition
from durable_streams.protocol.errors import ProtocolError
from durable_streams.protocol.messages.placing import Unfilled
from durable_streams.protocol.offsets import Offset
from durable_streams.protocol.state import Expiry, ForkPoint


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Of one stream; each is a setting, and 0 means no limit."""

    bytes_max: int = 0
    """Own bytes that a stream may hold."""
    producer_ttl_s: int = 0
    """How long a producer is remembered after its last accepted append, in seconds."""
    producers_max: int = 0
    """Producers that are remembered at once."""
    forks_max: int = 0
    """Forks that read the stream at once."""
    ttl_s: int = 0
    """The TTL of a stream that is created without one, and without a time of its end."""


UNLIMITED: Final = StreamLimits()


class Producer(NamedTuple):
    """The three Producer-* headers of an append (section 5.2.1)."""

    id: str
    epoch: int
    seq: int


@dataclass(frozen=True, slots=True)
class ForkSource:
    """The three Stream-Fork* headers of a create (section 4.2), before the source has been looked at."""

    source: str
    offset: Offset | None
    """Stream-Fork-Offset; None means the source's tail."""
    sub_offset: int


class Inherited(NamedTuple):
    """What a stream is that does not ask for anything else: a fork by its source, any other by the settings."""

    expiry: Expiry | None = None
    """None, unless the fork asks for none of its own."""
    old_messages: bool = False
    """See ``StreamConfig.old_messages``."""
    message_offsets: bool = False
    """See ``StreamConfig.message_offsets``."""


NOTHING_INHERITED: Final = Inherited()


class Identity(NamedTuple):
    """What tells a stream from all others that ever had its name."""

    uid: str
    life: int
    """See ``StreamConfig.life``."""


NOBODY: Final = Identity("", 0)

Messages = bytes | Unfilled | ProtocolError | None
"""The body of a JSON request as it is stored, or why it is refused; None: it has not been split yet."""


@dataclass(frozen=True, slots=True)
class Create:
    """PUT (section 5.1). ``identity`` to ``messages`` are filled in by the store."""

    name: str
    content_type: str | None
    expiry: Expiry
    closed: bool
    body: bytes
    fork: ForkSource | None = None
    identity: Identity = NOBODY
    fork_point: ForkPoint | None = None
    inherited: Inherited = NOTHING_INHERITED
    messages: Messages = None
    precondition: Precondition | None = None
    message_offsets: bool | None = None
    """Stream-Message-Offsets (an extension); None: not asked for, one way or the other."""

    @property
    def gets_message_offsets(self) -> bool:
        """Whether the messages of the new stream have offsets, if it is one of JSON."""
        asked = self.message_offsets
        return self.inherited.message_offsets if asked is None else asked


@dataclass(slots=True)
class Append:
    """POST (sections 5.2 and 5.3): bytes, or a closure, or both in one step."""

    name: str
    content_type: str | None
    body: bytes
    close: bool = False
    stream_seq: str | None = None
    producer: Producer | None = None
    expected_offset: Offset | None = None
    """Where the stream has to end for the request to be carried out."""
    precondition: Precondition | None = None
    messages: Messages = None


@dataclass(frozen=True, slots=True)
class Remove:
    """DELETE (section 5.4), or the end of one expired uid when ``uid`` is given."""

    name: str
    uid: str | None = None
    precondition: Precondition | None = None


@dataclass(frozen=True, slots=True)
class AddFork:
    """A fork reads this stream's bytes from now on; taking the same reference twice is taking it once."""

    name: str
    uid: str
    fork_uid: str
    fork_name: str


@dataclass(frozen=True, slots=True)
class RemoveFork:
    """A fork has gone, or never came to be."""

    name: str
    uid: str
    fork_uid: str


@dataclass(frozen=True, slots=True)
class Touch:
    """Record that the sliding window was last renewed at ``at`` (seconds since 1970) by reads."""

    name: str
    uid: str
    at: float


@dataclass(frozen=True, slots=True)
class Replace:
    """Give a document of the server another body, if it still is the life ``expected`` (None: if there is none)."""

    name: str
    expected: str | None
    uid: str
    """Of the new life."""
    body: bytes | None
    """None: the document goes."""
    size: int | None = None
    """Only if its body is still of this size, in bytes."""


@dataclass(frozen=True, slots=True)
class Extend:
    """Add to a document of the server, if it still is the life ``expected`` with a body of ``size`` bytes."""

    name: str
    expected: str
    size: int
    data: bytes


Request = Create | Append | Remove | AddFork | RemoveFork | Touch | Replace | Extend
