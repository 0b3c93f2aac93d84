"""The protocol once more, as plainly as it can be said: what the state machine holds every storage against.

Written from the specification without a look at the code under test. A stream holds all that a reader of it gets, so a
fork is a copy; nothing is stored, shared or made fast.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Producer = tuple[str, int, int]
JSON = "application/json"


@dataclass(eq=False)
class PlainStream:
    content_type: str
    messages: list[bytes]
    """What was appended, piece by piece; in JSON mode message by message as it is stored."""
    ttl: int | None
    expires_at: float | None
    used_at: float
    closed: bool
    closed_by: Producer | None = None
    stream_seq: str | None = None
    producers: dict[str, tuple[int, int]] = field(default_factory=dict)
    source: PlainStream | None = None
    fork_asked: tuple[str, int, int] | None = None
    """Source name, anchor and sub-offset."""
    inherits_expiry: bool = False
    forks: set[PlainStream] = field(default_factory=set)
    deleted: bool = False

    @property
    def content(self) -> bytes:
        return b"".join(self.messages)

    def ends(self) -> list[int]:
        """The positions between messages, the first and the last included."""
        found = [0]
        for message in self.messages:
            found.append(found[-1] + len(message))
        return found


class Refused(Exception):
    """``kind`` is the name of the error that is expected."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class PlainStreams:
    def __init__(self, now: float) -> None:
        self.now = now
        self.streams: dict[str, PlainStream] = {}

    # -- looking -----------------------------------------------------------------------------------------------

    def is_over(self, stream: PlainStream) -> bool:
        if stream.ttl is not None:
            return self.now >= stream.used_at + stream.ttl
        return stream.expires_at is not None and self.now >= stream.expires_at

    def find(self, name: str) -> PlainStream:
        stream = self.streams.get(name)
        if stream is None:
            raise Refused("StreamNotFound")
        if stream.deleted or self.is_over(stream):
            raise Refused("StreamGone" if stream.deleted or stream.forks else "StreamNotFound")
        return stream

    # -- ending ------------------------------------------------------------------------------------------------

    def _end(self, name: str) -> None:
        """By deletion or expiry: kept out of sight for its forks, or gone; then its source may go too."""
        stream = self.streams[name]
        stream.deleted = bool(stream.forks)
        while not stream.forks:
            (name,) = [name for name, other in self.streams.items() if other is stream]
            del self.streams[name]
            source = stream.source
            if source is None:
                return
            source.forks.discard(stream)
            if not source.deleted:
                return
            stream = source

    def remove(self, name: str) -> None:
        self.find(name)
        self._end(name)

    def sweep(self) -> None:
        for name, stream in list(self.streams.items()):
            if self.streams.get(name) is stream and not stream.deleted and self.is_over(stream):
                self._end(name)

    # -- creating ----------------------------------------------------------------------------------------------

    def create(
        self,
        name: str,
        content_type: str,
        messages: list[bytes],
        ttl: int | None,
        expires_at: float | None,
        closed: bool,
    ) -> bool:
        """Whether it was there already."""
        found = self._clear(name)
        if found is not None:
            same = (found.content_type, found.ttl, found.expires_at, found.closed, found.fork_asked)
            if same != (content_type, ttl, expires_at, closed, None):
                raise Refused("StreamExists")
            return True
        self.streams[name] = PlainStream(content_type, list(messages), ttl, expires_at, self.now, closed)
        return False

    def fork(
        self,
        name: str,
        source_name: str,
        messages: list[bytes],
        anchor: int | None,
        sub_offset: int,
        ttl: int | None,
    ) -> bool:
        """Whether it was there already."""
        found = self._clear(name)
        if found is not None:
            self._check_same_fork(found, source_name, anchor, sub_offset, ttl)
            return True
        source = self.streams.get(source_name)
        if source is None:
            raise Refused("StreamNotFound")
        if source.deleted or self.is_over(source):
            raise Refused("ForkFromDeleted" if source.deleted or source.forks else "StreamNotFound")
        if anchor is None:
            anchor = len(source.content)
        inherited = _inherited(source, anchor, sub_offset)
        inherits = ttl is None
        fork = PlainStream(
            source.content_type,
            inherited + messages,
            source.ttl if inherits else ttl,
            source.expires_at if inherits else None,
            self.now,
            closed=False,
            source=source,
            fork_asked=(source_name, anchor, sub_offset),
            inherits_expiry=inherits,
        )
        source.forks.add(fork)
        self.streams[name] = fork
        return False

    def _clear(self, name: str) -> PlainStream | None:
        """The stream of that name; one whose time is over makes room first."""
        found = self.streams.get(name)
        if found is not None and not found.deleted and self.is_over(found):
            self._end(name)
            found = self.streams.get(name)
        if found is not None and found.deleted:
            raise Refused("PathBlocked")
        return found

    def _check_same_fork(
        self, found: PlainStream, source_name: str, anchor: int | None, sub_offset: int, ttl: int | None
    ) -> None:
        if found.fork_asked is None or found.closed:
            raise Refused("StreamExists")
        was_source, was_anchor, was_sub_offset = found.fork_asked
        if (was_source, was_sub_offset) != (source_name, sub_offset) or anchor not in (None, was_anchor):
            raise Refused("StreamExists")
        if found.inherits_expiry is not (ttl is None) or ttl not in (None, found.ttl):
            raise Refused("StreamExists")

    # -- appending ---------------------------------------------------------------------------------------------

    def append(
        self,
        name: str,
        content_type: str,
        messages: list[bytes],
        close: bool,
        stream_seq: str | None,
        producer: Producer | None,
    ) -> bool:
        """Whether it was a duplicate."""
        stream = self.find(name)
        if stream.closed:
            is_repeated = stream.closed_by == producer if producer else close and not messages
            if not is_repeated:
                raise Refused("StreamClosed")
            stream.used_at = self.now
            return True
        if messages and content_type != stream.content_type:
            raise Refused("ContentTypeMismatch")
        if not messages and not close:
            raise Refused("EmptyBody")
        if producer and self._is_old(stream, producer):
            stream.used_at = self.now
            return True
        if stream_seq is not None and stream.stream_seq is not None and stream_seq <= stream.stream_seq:
            raise Refused("StreamSeqRegression")
        stream.messages += messages
        stream.used_at = self.now
        stream.stream_seq = stream_seq if stream_seq is not None else stream.stream_seq
        if producer:
            stream.producers[producer[0]] = producer[1:]
        if close:
            stream.closed, stream.closed_by = True, producer
        return False

    def _is_old(self, stream: PlainStream, producer: Producer) -> bool:
        name, epoch, seq = producer
        current, last = stream.producers.get(name, (-1, -1))
        if epoch < current:
            raise Refused("StaleEpoch")
        if epoch == current and seq <= last:
            return True
        expected = last + 1 if epoch == current else 0
        if seq != expected:
            raise Refused("BadRequest" if 0 <= current < epoch else "ProducerSeqGap")
        return False


def _inherited(source: PlainStream, anchor: int, sub_offset: int) -> list[bytes]:
    tail = len(source.content)
    if anchor > tail:
        raise Refused("BadRequest")
    if source.content_type != JSON:
        if anchor + sub_offset > tail:
            raise Refused("BadRequest")
        return [source.content[: anchor + sub_offset]]
    if anchor not in source.ends():
        raise Refused("InvalidOffset")
    count = source.ends().index(anchor) + sub_offset
    if count > len(source.messages):
        raise Refused("BadRequest")
    return source.messages[:count]
