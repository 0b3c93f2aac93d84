"""What a client knows of the streams that it alone writes to: what was acknowledged, and what is in doubt.

What a step does to a stream is said by the model of the protocol; of the server nothing is imported here, so that its
own rules cannot excuse it. Who sends a step is `writers`, who compares is `checking`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from tests.model import JSON, Content, Model, Stream

FAR_INSTANT = "2099-01-02T03:04:05.678Z"
FAR_SECONDS = 4071006245.678
"""The one deadline that a client names, as text and in seconds since 1970."""
REMEMBERED_REMOVALS = 20


@dataclass(frozen=True)
class Batch:
    """One accepted batch of a producer, as it was sent."""

    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Known:
    """A stream as its only writer knows it."""

    stream: Stream
    marks: tuple[tuple[str, int], ...] = ()
    """Offsets that the server has given out, each with how much content lies before it."""
    batch: Batch | None = None
    """The newest accepted batch of a producer; on a closed stream, only the one that closed it."""
    lingering: bool = False
    """Its last fork went in a crash, which has left it without anybody who needs it; it may go at any time."""
    written_at: float = 0.0
    """When the newest acknowledged write was sent, and when its answer was read (seconds since 1970)."""
    touched_at: float = 0.0

    @property
    def is_json(self) -> bool:
        return self.stream.content_type == JSON

    @property
    def content(self) -> Content:
        return self.stream.content

    @property
    def tail(self) -> str:
        """The newest offset: that of the end of the content."""
        return self.marks[-1][0]

    @property
    def expires_at(self) -> str | None:
        return None if self.stream.expires_at is None else FAR_INSTANT


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

    def __init__(self, late_expiry: float = 0.0) -> None:
        self.late_expiry = late_expiry
        """How much of its TTL a stream may outlive its window."""
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
            if name == step.name and next_offset is not None and not known.stream.deleted:
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

    def model(self) -> Model:
        """The streams of this client, at a time at which none expires."""
        return Model(0.0, {name: known.stream for name, known in self.streams.items()})

    def after(self, change: Callable[[Model], object]) -> dict[str, Known | None]:
        """What a change makes of every stream that it changes; None: there is no such stream any more."""
        model = self.model()
        change(model)
        changed: dict[str, Known | None] = {
            name: replace(self.streams.get(name, Known(stream)), stream=stream)
            for name, stream in model.streams.items()
            if name not in self.streams or stream is not self.streams[name].stream
        }
        return changed | dict.fromkeys(self.streams.keys() - model.streams.keys())

    def may_have_gone(self, name: str) -> bool:
        """Whether it is deleted, and kept for nobody but streams of which the same is true."""
        known, forks = self.streams[name], list(self.model().forks_of(name))
        return known.stream.deleted and bool(known.lingering or forks) and all(map(self.may_have_gone, forks))
