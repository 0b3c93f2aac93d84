"""The protocol once more, as plainly as it can be said: what every random test of streams is held against.

Written from the specification without a look at the code under test. A stream holds all that a reader of it gets, so a
fork is a copy; nothing is stored, shared or made fast. Streams are values, so a copy of a model is a copy of its table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

Content = bytes | tuple[Any, ...]
"""The bytes of a byte stream, or the messages of a JSON stream; positions and lengths count the one or the other."""
Producer = tuple[str, int, int]
"""Id, epoch and sequence number."""

JSON: Final = "application/json"
INSIDE: Final = -1
"""A position inside a message, where nothing begins."""


@dataclass(frozen=True)
class Stream:
    content_type: str
    content: Content
    ttl: int | None = None
    """Seconds; `expires_at` and `used_at` are seconds since 1970."""
    expires_at: float | None = None
    used_at: float = 0.0
    closed: bool = False
    closed_by: Producer | None = None
    stream_seq: str | None = None
    producers: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Id -> epoch and sequence number of the newest accepted batch."""
    fork_asked: tuple[str, int, int] | None = None
    """Of a fork: the name of its source, the position asked for, and the sub-offset."""
    inherits_expiry: bool = False
    deleted: bool = False
    """Out of sight, and kept for its forks."""

    @property
    def source(self) -> str | None:
        return self.fork_asked[0] if self.fork_asked else None


class Refused(Exception):
    """``kind`` is the name of the error that is expected."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Model:
    """All streams by name. Every method raises Refused for what the protocol refuses, and then changes nothing."""

    def __init__(self, now: float, streams: Mapping[str, Stream] | None = None) -> None:
        self.now = now
        self.streams = dict(streams or {})

    # -- looking -----------------------------------------------------------------------------------------------

    def is_over(self, stream: Stream) -> bool:
        if stream.ttl is not None:
            return self.now >= stream.used_at + stream.ttl
        return stream.expires_at is not None and self.now >= stream.expires_at

    def forks_of(self, name: str) -> Iterator[str]:
        return (other for other, stream in self.streams.items() if stream.source == name)

    def find(self, name: str) -> Stream:
        stream = self.streams.get(name)
        if stream is None:
            raise Refused("StreamNotFound")
        if stream.deleted or self.is_over(stream):
            raise Refused("StreamGone" if stream.deleted or any(self.forks_of(name)) else "StreamNotFound")
        return stream

    def touch(self, name: str) -> None:
        """A read restarts the window of a TTL."""
        self.streams[name] = replace(self.find(name), used_at=self.now)

    # -- ending ------------------------------------------------------------------------------------------------

    def _end(self, name: str) -> None:
        """By deletion or expiry: kept out of sight for its forks, or gone; then its source may go too."""
        self.streams[name] = replace(self.streams[name], deleted=True)
        going: str | None = name
        while going in self.streams and self.streams[going].deleted and not any(self.forks_of(going)):
            going = self.streams.pop(going).source

    def remove(self, name: str) -> None:
        self.find(name)
        self._end(name)

    def sweep(self) -> None:
        for name in list(self.streams):
            stream = self.streams.get(name)
            if stream is not None and not stream.deleted and self.is_over(stream):
                self._end(name)

    # -- creating ----------------------------------------------------------------------------------------------

    def create(
        self,
        name: str,
        content_type: str,
        content: Content,
        ttl: int | None = None,
        expires_at: float | None = None,
        closed: bool = False,
    ) -> bool:
        """Whether it was there already."""
        found = self._clear(name)
        if found is not None:
            same = (found.content_type, found.ttl, found.expires_at, found.closed, found.fork_asked)
            if same != (content_type, ttl, expires_at, closed, None):
                raise Refused("StreamExists")
            return True
        self.streams[name] = Stream(content_type, content, ttl, expires_at, self.now, closed)
        return False

    def fork(
        self,
        name: str,
        source_name: str,
        content: Content,
        anchor: int | None = None,
        sub_offset: int = 0,
        ttl: int | None = None,
    ) -> bool:
        """Whether it was there already. ``content`` is what the fork begins with beside what it inherits."""
        found = self._clear(name)
        if found is not None:
            _check_same_fork(found, source_name, anchor, sub_offset, ttl)
            return True
        source = self._source(source_name)
        if anchor is None:
            anchor = len(source.content)
        inherits = ttl is None
        self.streams[name] = Stream(
            source.content_type,
            _inherited(source, anchor, sub_offset) + content,  # type: ignore[operator]
            source.ttl if inherits else ttl,
            source.expires_at if inherits else None,
            self.now,
            fork_asked=(source_name, anchor, sub_offset),
            inherits_expiry=inherits,
        )
        return False

    def _clear(self, name: str) -> Stream | None:
        """The stream of that name; one whose time is over makes room first."""
        found = self.streams.get(name)
        if found is not None and not found.deleted and self.is_over(found):
            self._end(name)
            found = self.streams.get(name)
        if found is not None and found.deleted:
            raise Refused("PathBlocked")
        return found

    def _source(self, name: str) -> Stream:
        source = self.streams.get(name)
        if source is None:
            raise Refused("StreamNotFound")
        if source.deleted or self.is_over(source):
            is_kept = source.deleted or any(self.forks_of(name))
            raise Refused("ForkFromDeleted" if is_kept else "StreamNotFound")
        return source

    # -- appending ---------------------------------------------------------------------------------------------

    def append(
        self,
        name: str,
        content_type: str,
        content: Content,
        close: bool = False,
        stream_seq: str | None = None,
        producer: Producer | None = None,
    ) -> bool:
        """Whether it was a duplicate."""
        stream = self.find(name)
        used = replace(stream, used_at=self.now)
        if stream.closed:
            is_repeated = stream.closed_by == producer if producer else close and not content
            if not is_repeated:
                raise Refused("StreamClosed")
            self.streams[name] = used
            return True
        if content and content_type != stream.content_type:
            raise Refused("ContentTypeMismatch")
        if not content and not close:
            raise Refused("EmptyBody")
        if producer and _is_old(stream, producer):
            self.streams[name] = used
            return True
        if stream_seq is not None and stream.stream_seq is not None and stream_seq <= stream.stream_seq:
            raise Refused("StreamSeqRegression")
        self.streams[name] = replace(
            used,
            content=stream.content + content if content else stream.content,  # type: ignore[operator]
            closed=close,
            closed_by=producer if close else None,
            stream_seq=stream_seq if stream_seq is not None else stream.stream_seq,
            producers={**stream.producers, producer[0]: producer[1:]} if producer else stream.producers,
        )
        return False


def _is_old(stream: Stream, producer: Producer) -> bool:
    """Whether the batch was accepted before; raises Refused for one that is out of turn."""
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


def _check_same_fork(
    found: Stream, source_name: str, anchor: int | None, sub_offset: int, ttl: int | None
) -> None:
    if found.fork_asked is None or found.closed:
        raise Refused("StreamExists")
    was_source, was_anchor, was_sub_offset = found.fork_asked
    if (was_source, was_sub_offset) != (source_name, sub_offset) or anchor not in (None, was_anchor):
        raise Refused("StreamExists")
    if found.inherits_expiry is not (ttl is None) or ttl not in (None, found.ttl):
        raise Refused("StreamExists")


def _inherited(source: Stream, anchor: int, sub_offset: int) -> Content:
    if anchor == INSIDE:
        raise Refused("InvalidOffset")
    if max(anchor, anchor + sub_offset) > len(source.content):
        raise Refused("BadRequest")
    return source.content[: anchor + sub_offset]
