"""What must be remembered of a stream, and nothing else.

A storage records these values; only the modules beside this one decide what they become. They are immutable by
convention: a decision makes a successor with ``evolve``, so the state that a reader holds never changes under it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from durable_streams.protocol.content import is_json, media_type
from durable_streams.protocol.offsets import format_offset

NO_PRODUCERS: Final[Mapping[str, ProducerState]] = MappingProxyType({})
NO_FORKS: Final[Mapping[str, ForkReference]] = MappingProxyType({})
RECHECK_DELETED_S: Final = 3600.0
"""How often a soft-deleted stream is checked for forks that a crash has kept from releasing it."""
ORPHAN_AGE_S: Final = 60.0
"""How old a reference must be before the lack of its fork means that a crash came between the two: no request takes so
long to create a fork.
"""


@dataclass(frozen=True, slots=True)
class Expiry:
    """A sliding window in seconds, or an absolute instant, or neither (section 5.1); never both."""

    ttl_s: int | None = None
    expires_at: float | None = None
    """Seconds since 1970 (UTC)."""
    expires_at_text: str | None = None
    """The instant as the client wrote it (RFC 3339)."""


NO_EXPIRY: Final = Expiry()


@dataclass(frozen=True, slots=True)
class ForkPoint:
    """Where a fork left its source (section 4.2). Bytes before ``position`` are the source's."""

    source: str
    source_uid: str
    position: int
    anchor: int
    """The position that Stream-Fork-Offset named (or the source's tail when it was absent)."""
    sub_offset: int
    inherits_expiry: bool
    life: int
    """The life that the source's offset of ``position`` carries; see `protocol.offsets`."""


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """What is fixed when a stream is created."""

    name: str
    uid: str
    """Unique among all streams that ever had this name."""
    content_type: str
    """As it was sent, parameters included."""
    expiry: Expiry
    fork: ForkPoint | None
    life: int
    """When it was created, in microseconds since 1970; the first field of its offsets. See `streams.lives`."""
    old_messages: bool = False
    """Some of its JSON messages may be stored as earlier versions did; see `protocol.messages.framing`."""
    message_offsets: bool = False
    """Its messages have the offset of their append in their headers; see `protocol.messages.placing`."""
    media_type: str = field(init=False, repr=False, compare=False)
    is_json: bool = field(init=False, repr=False, compare=False)
    forked_at: int = field(init=False, repr=False, compare=False)
    """The first position whose byte is this stream's own."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "media_type", media_type(self.content_type))
        object.__setattr__(self, "is_json", is_json(self.content_type))
        object.__setattr__(self, "forked_at", self.fork.position if self.fork else 0)
        if self.expiry == NO_EXPIRY:
            # One object, so that "never expires", which every request asks, is one comparison.
            object.__setattr__(self, "expiry", NO_EXPIRY)


@dataclass(slots=True, eq=False)
class ProducerState:
    """The newest accepted (epoch, sequence) of one producer (section 5.2.1)."""

    epoch: int
    seq: int
    seen_at: int
    """When that was accepted, in whole seconds since 1970."""


class ForkReference(NamedTuple):
    """What a stream remembers of a fork that reads its bytes."""

    name: str
    taken_at: float
    """Seconds since 1970. A reference is older than its fork; 0 when it was recorded before references had a date."""

    @property
    def certain_at(self) -> float:
        """From then on a reference without a fork is an orphan (seconds since 1970)."""
        return self.taken_at + ORPHAN_AGE_S


@dataclass(slots=True)
class StreamState:
    """A stream at one moment; ``tail`` is the position after its last byte."""

    config: StreamConfig
    tail: int
    touched_at: float
    """Start of the sliding window: the last write, or the last recorded read (seconds since 1970)."""
    closed: bool = False
    closed_by: tuple[str, int, int] | None = None
    """The (producer id, epoch, sequence) of the request that closed the stream, if it named one."""
    stream_seq: str | None = None
    producers: Mapping[str, ProducerState] = field(default_factory=lambda: NO_PRODUCERS)
    """Id of the producer -> its state. Like ``forks``, changed with the functions of `persistent_map`."""
    forks: Mapping[str, ForkReference] = field(default_factory=lambda: NO_FORKS)
    """Forks that read this stream's bytes, by uid of the fork."""
    deleted: bool = False
    """Soft-deleted: kept only for its forks."""
    revision: int = 1
    """Grows by one with every step. ``config.uid`` and ``revision`` together name one state of one stream."""
    mark: object = field(default=None, repr=False, compare=False)
    """Set by a shared storage when it records the state: its own proof that nobody has changed the stream since."""

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def uid(self) -> str:
        return self.config.uid

    @property
    def next_offset(self) -> str:
        """The offset of the tail."""
        fork = self.config.fork
        life = fork.life if fork is not None and self.tail == fork.position else self.config.life
        return format_offset(life, self.tail)

    @property
    def own_bytes(self) -> int:
        """Stored bytes that are this stream's own, not its source's."""
        return self.tail - self.config.forked_at

    @property
    def due_at(self) -> float | None:
        """When the sweeper has to look at this stream again: at its deadline, or to see whether its forks live."""
        if self.deleted:
            # The last check could not tell of a reference younger than this whether it has a fork.
            uncertain = (fork.certain_at for fork in self.forks.values() if fork.certain_at > self.touched_at)
            return min(uncertain, default=self.touched_at + RECHECK_DELETED_S)
        expiry = self.config.expiry
        if expiry.ttl_s is not None:
            return self.touched_at + expiry.ttl_s
        return expiry.expires_at


def evolve(state: StreamState, **changes: Any) -> StreamState:
    """The successor of ``state``: one revision later, with ``changes`` to its fields, and not recorded yet.

    With ``grow``, the only way to make a state out of another. Until a decision gives it away it may set more fields.
    A new ``config`` makes it the first state of another uid.
    """
    successor = grow(state, 0, state.touched_at)
    for name, value in changes.items():
        setattr(successor, name, value)
    return successor


def grow(state: StreamState, size: int, now: float) -> StreamState:
    """The successor of ``state`` that is longer by ``size`` bytes, written at ``now``: every append makes one."""
    return StreamState(
        state.config,
        state.tail + size,
        now,
        state.closed,
        state.closed_by,
        state.stream_seq,
        state.producers,
        state.forks,
        state.deleted,
        state.revision + 1,
    )
