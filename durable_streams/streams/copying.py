"""All streams of one storage into another, of whatever kind: states, bytes, producers, forks and deadlines as they are.

Both storages are open, and this process alone uses them. Streams are written in groups; a long one goes in pieces, and
is whole with its last piece. A copy that was interrupted goes on where it ended when it is begun again: what the
target holds already is compared by its state, and a stream of the same life is continued at its tail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, field, fields, replace
from typing import Final

from durable_streams.protocol.errors import StreamDamaged
from durable_streams.protocol.state import StreamState
from durable_streams.storage.contract import Change, Found, Storage, Unit

NAMES_AT_ONCE: Final = 500
PIECE_BYTES: Final = 1024 * 1024
GROUP_BYTES: Final = 4 * PIECE_BYTES
"""What is held of the payload at once, roughly."""
FIRST_NAME: Final = ""


class CopyConflict(Exception):
    """The target has something else in the place of a stream; the message names it."""


@dataclass(slots=True)
class Copied:
    """What a copy has done. ``present``: streams that the target had already, whole."""

    streams: int = 0
    present: int = 0
    payload_bytes: int = 0
    problems: list[str] = field(default_factory=list)
    """A line for each stream that was not copied, and why."""


def stream_names(storage: Storage) -> Iterator[list[str]]:
    """All names in order, NAMES_AT_ONCE at a time, those of internal streams too."""
    after = FIRST_NAME
    while names := storage.names("", after, NAMES_AT_ONCE):
        yield names
        after = names[-1]


def count_payload(storage: Storage) -> int:
    """The bytes of all streams that can be read; those of forks count once."""
    total = 0
    for names in stream_names(storage):
        total += sum(
            found.own_bytes for found in storage.find(names).values() if isinstance(found, StreamState)
        )
    return total


def copy_streams(source: Storage, target: Storage, on_bytes: Callable[[int], object]) -> Copied:
    """Copy what the target does not have; ``on_bytes(count)`` is called as bytes arrive there.

    A stream that is damaged, or in whose place the target has another, becomes a problem, and the others are copied.
    Raises what the storages raise.
    """
    copy = _Copy(source, target, on_bytes)
    for names in stream_names(source):
        found, present = source.find(names), target.find(names)
        for name in names:
            copy.add(name, found[name], present[name])
    copy.write_group()
    return copy.done


class _Copy:
    def __init__(self, source: Storage, target: Storage, on_bytes: Callable[[int], object]) -> None:
        self._source = source
        self._target = target
        self._on_bytes = on_bytes
        self._group: dict[int, list[Unit]] = {}
        self._group_bytes = self._group_streams = 0
        self.done = Copied()

    def add(self, name: str, state: Found, present: Found) -> None:
        """Copy one stream, or note why not."""
        try:
            for found in (state, present):
                if isinstance(found, StreamDamaged):
                    raise found
            if isinstance(state, StreamState):
                assert not isinstance(present, StreamDamaged)
                self._copy(state, present)
        except (StreamDamaged, CopyConflict) as problem:
            self.done.problems.append(f"{name}: {problem}")

    def _copy(self, state: StreamState, present: StreamState | None) -> None:
        if present is not None:
            _check_same_life(state, present)
            self._on_bytes(present.own_bytes)
            if _is_same(state, present):
                self.done.present += 1
                return
        position = present.tail if present else state.config.forked_at
        while state.tail - position > PIECE_BYTES:
            piece = self._source.read(state, position, position + PIECE_BYTES)
            position += PIECE_BYTES
            self._commit([(Change(present, _unfinished(state, present, position), [piece]),)], state.name)
            present = self._recorded(state.name)
            self._count(len(piece))
        rest = self._source.read(state, position, state.tail)
        after = _finished(state, present)
        change = Change(present, after, [rest] if rest else [], _entries(present, after))
        self._group.setdefault(self._target.shard_of(state.name), []).append((change,))
        self._group_bytes += len(rest)
        self._group_streams += 1
        if self._group_bytes >= GROUP_BYTES or self._group_streams >= NAMES_AT_ONCE:
            self.write_group()

    def write_group(self) -> None:
        """Record the streams that wait for it."""
        group, self._group = self._group, {}
        for units in group.values():
            self._commit(units, units[0][0].name)
        self.done.streams += self._group_streams
        self._count(self._group_bytes)
        self._group_bytes = self._group_streams = 0

    def _commit(self, units: list[Unit], name: str) -> None:
        lost = self._target.commit(self._target.shard_of(name), units, {})
        if lost:
            raise CopyConflict(f"another process changes {', '.join(sorted(lost))} in the target")

    def _recorded(self, name: str) -> StreamState:
        found = self._target.find([name])[name]
        if not isinstance(found, StreamState):
            raise CopyConflict("the target has lost what was just written")
        return found

    def _count(self, size: int) -> None:
        self.done.payload_bytes += size
        self._on_bytes(size)


def _check_same_life(state: StreamState, present: StreamState) -> None:
    if present.config.uid != state.config.uid:
        raise CopyConflict("the target has another stream of this name")
    if present.tail > state.tail:
        raise CopyConflict("the target's stream is longer: it has been appended to since it was copied")


def _is_same(state: StreamState, present: StreamState) -> bool:
    return _facts(state) == _facts(present)


def _facts(state: StreamState) -> dict[str, object]:
    """All that is remembered, but the revision and the mark, which are those of one storage."""
    facts = {each.name: getattr(state, each.name) for each in fields(state)}
    del facts["revision"], facts["mark"]
    facts["producers"] = {id: astuple(producer) for id, producer in state.producers.items()}
    facts["forks"] = dict(state.forks)
    return facts


def _unfinished(state: StreamState, present: StreamState | None, tail: int) -> StreamState:
    """The stream as far as its bytes have come; what makes it whole comes with the last of them."""
    return StreamState(state.config, tail, state.touched_at, revision=_next_revision(present))


def _finished(state: StreamState, present: StreamState | None) -> StreamState:
    return replace(state, revision=_next_revision(present), mark=None)


def _next_revision(present: StreamState | None) -> int:
    return present.revision + 1 if present else 1


def _entries(present: StreamState | None, after: StreamState) -> tuple[str, ...]:
    """Of every entry it is said that it may be another one."""
    if present is None:
        return ()
    return tuple({*present.producers, *present.forks, *after.producers, *after.forks})
