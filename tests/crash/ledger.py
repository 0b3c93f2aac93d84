"""What a client knows of the streams that it alone writes to: what was acknowledged, and what is in doubt.

Nothing of the server is imported here: a stream is modelled from the protocol's text, so that the server's
own rules cannot excuse the server. Who sends a step is `lanes`, who compares is `checking`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Content = bytes | tuple[Any, ...]
"""Bytes of a byte stream, or the messages of a JSON stream."""
REMEMBERED_REMOVALS = 20


@dataclass(frozen=True)
class Batch:
    """One accepted batch of a producer, as it was sent."""

    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Known:
    """A stream as its only writer knows it."""

    content_type: str
    content: Content = b""
    marks: tuple[tuple[str, int], ...] = ()
    """Offsets that the server has given out, each with how much content lies before it."""
    closed: bool = False
    producers: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """The newest accepted (epoch, sequence) by producer."""
    batch: Batch | None = None
    """The newest accepted batch of a producer; on a closed stream, only the one that closed it."""
    stream_seq: str | None = None
    ttl_s: int | None = None
    expires_at: str | None = None
    source: str | None = None
    """What it is a fork of."""
    deleted: bool = False
    """Deleted by its owner, kept for its forks."""
    lingering: bool = False
    """Its last fork went in a crash, which has left it without anybody who needs it; it may go at any time."""
    written_at: float = 0.0
    """When the newest acknowledged write was sent, and when its answer was read (seconds since 1970)."""
    touched_at: float = 0.0

    @property
    def is_json(self) -> bool:
        return self.content_type == "application/json"

    @property
    def tail(self) -> str:
        """The newest offset: that of the end of the content."""
        return self.marks[-1][0]


@dataclass(frozen=True)
class Step:
    """One request that changes something, and what the world is after it."""

    method: str
    name: str
    headers: Mapping[str, str]
    body: bytes
    after: Mapping[str, Known | None]
    """What every stream that it changes becomes; None: there is no such stream any more."""
    statuses: tuple[int, ...]
    """What the server may answer when it carries it out."""
    again: tuple[int, ...] = ()
    """What it may answer when it has carried it out before; empty: sending it twice would do it twice."""


class World:
    """All streams of one client."""

    def __init__(self) -> None:
        self.streams: dict[str, Known] = {}
        self.removed: dict[str, None] = {}
        """Names that must not be found, oldest first."""
        self.doubt: Step | None = None
        """The step whose answer never came."""
        self.doubted_from = 0.0
        """When that step was sent, in seconds since 1970."""

    def accept(self, step: Step, next_offset: str | None, sent_at: float, answered_at: float) -> None:
        """The step was carried out; `next_offset` is what the answer named as the tail."""
        for name, known in step.after.items():
            if known is None:
                self.forget(name)
                continue
            if name == step.name and next_offset is not None and not known.deleted:
                mark = (next_offset, len(known.content))
                known = replace(known, marks=(*(each for each in known.marks if each != mark), mark))
            self.streams[name] = replace(known, written_at=sent_at, touched_at=answered_at)
            self.removed.pop(name, None)

    def forget(self, name: str) -> None:
        """The stream has gone."""
        self.streams.pop(name, None)
        self.removed[name] = None
        while len(self.removed) > REMEMBERED_REMOVALS:
            del self.removed[next(iter(self.removed))]

    def forks_of(self, name: str) -> list[str]:
        return [fork for fork, known in self.streams.items() if known.source == name]

    def may_have_gone(self, name: str) -> bool:
        """Whether it is deleted, and kept for nobody but streams of which the same is true."""
        known, forks = self.streams[name], self.forks_of(name)
        return known.deleted and bool(known.lingering or forks) and all(map(self.may_have_gone, forks))

    def removal_of(self, name: str) -> dict[str, Known | None]:
        """What a DELETE changes (section 4.2): a source is kept for its forks, and goes with the last one."""
        if self.forks_of(name):
            return {name: replace(self.streams[name], deleted=True)}
        after: dict[str, Known | None] = {name: None}
        source = self.streams[name].source
        while source is not None and self.streams[source].deleted:
            if set(self.forks_of(source)) - set(after):
                break
            after[source] = None
            source = self.streams[source].source
        return after
