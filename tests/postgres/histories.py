"""Whether a recorded history of one append-only log is linearisable.

A checker for any object tries orders until one fits. Here the final content gives the order: every record is in it
once, and whoever has seen the log has seen a length of it. So each operation has its place, and the one question left
is whether the places agree with real time: what was answered before another was sent must not lie behind it. That
takes n log n steps, is exact, and names what broke.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

NEVER = math.inf
"""When an operation was answered that was not: whether it was carried out is unknown."""


@dataclass(frozen=True)
class Op:
    """One request, and what its answer said. Times in seconds of one clock, positions in bytes."""

    invoked: float
    answered: float = NEVER
    record: bytes = b""
    """What it appends; no two of a history are alike, and none is a part of another."""
    closes: bool = False
    content: bytes | None = None
    """What a reader has of the log when it was answered, from the start."""
    end: int | None = None
    """The tail that the answer named."""
    saw_closed: bool = False

    @property
    def writes(self) -> bool:
        return bool(self.record) or self.closes


def difference(ops: Sequence[Op], final: bytes, closed: bool) -> str | None:
    """Why no order of the operations explains the history and what is there in the end; None: there is one."""
    try:
        placed = list(_placed(ops, final, closed))
        _check_content(placed, final)
    except ValueError as exc:
        return str(exc)
    return _check_real_time(placed)


Placed = tuple[int, int, Op]
"""From where to where an operation takes the log; a reader leaves it where it is. The close is one more step."""


def _placed(ops: Sequence[Op], final: bytes, closed: bool) -> Iterator[Placed]:
    boundaries = {0}
    for op in _carried_out(ops, final, closed):
        start, stop = _place_of(op, final)
        boundaries.add(stop + op.closes)
        yield start, stop + op.closes, op
    for op in ops:
        if not op.writes and op.answered != NEVER:
            length = _length_seen(op, final)
            if op.saw_closed and not (closed and length == len(final)):
                raise ValueError(f"{op} has seen an end that is none")
            place = length + op.saw_closed
            if place not in boundaries:
                raise ValueError(f"{op} has seen a part of a write")
            yield place, place, op


def _carried_out(ops: Sequence[Op], final: bytes, closed: bool) -> list[Op]:
    """The writes that the log shows: all that were answered, and some that were not."""
    done = [op for op in ops if op.record and (op.answered != NEVER or op.record in final)]
    bare = [op for op in ops if op.closes and not op.record]
    done += [op for op in bare if op.answered != NEVER]
    if closed and not any(op.closes for op in done):
        # Nobody was told, so it may have been any of them.
        done += sorted(bare, key=lambda op: op.invoked)[:1]
    if sum(op.closes for op in done) != int(closed):
        raise ValueError("the log was not closed by one operation")
    return done


def _place_of(op: Op, final: bytes) -> tuple[int, int]:
    if op.record and (found := final.count(op.record)) != 1:
        raise ValueError(f"{op} is in the log {found} times")
    start = final.index(op.record) if op.record else len(final)
    stop = start + len(op.record)
    if op.closes and stop != len(final):
        raise ValueError(f"{op} has closed the log, and it went on")
    if op.end not in (None, stop):
        raise ValueError(f"{op} ends at {stop}")
    return start, stop


def _length_seen(op: Op, final: bytes) -> int:
    if op.content is None:
        assert op.end is not None
        return op.end
    if not final.startswith(op.content):
        raise ValueError(f"{op} has read what is no prefix of the log")
    if op.end not in (None, len(op.content)):
        raise ValueError(f"{op} names a tail that is not where it has read to")
    return len(op.content)


def _check_content(placed: Sequence[Placed], final: bytes) -> None:
    written = sum(len(op.record) for _, _, op in placed)
    if written != len(final):
        raise ValueError(f"the log has {len(final)} bytes, and {written} were written")


def _check_real_time(placed: Sequence[Placed]) -> str | None:
    """What was answered before an operation was sent must not lie behind it."""
    out: list[tuple[float, int, int, Op]] = []
    reached: tuple[int, Op | None] = 0, None
    for number, (start, stop, op) in enumerate(sorted(placed, key=lambda each: each[2].invoked)):
        while out and out[0][0] < op.invoked:
            _, _, other_stop, other = heapq.heappop(out)
            if other_stop > reached[0]:
                reached = other_stop, other
        if start < reached[0]:
            return f"{op} lies at {start}, and {reached[1]}, answered before, at {reached[0]}"
        heapq.heappush(out, (op.answered, number, stop, op))
    return None
