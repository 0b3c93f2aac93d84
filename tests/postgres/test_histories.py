"""The judge of histories against one that tries every order: they agree, on right histories and on wrong ones."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import replace

from tests.postgres.histories import NEVER, Op, difference

HISTORIES = 3000
OPS_MAX = 6


def explains(ops: Sequence[Op], final: bytes, closed: bool) -> bool:
    """Whether some order of the operations, true to real time, gives all answers: tried one by one."""

    def goes_on(left: frozenset[int], content: bytes, is_closed: bool) -> bool:
        answered = [ops[number] for number in left if ops[number].answered != NEVER]
        if not answered and (content, is_closed) == (final, closed):
            return True
        first = min((op.answered for op in answered), default=NEVER)
        for number in left:
            op = ops[number]
            if op.invoked > first:
                continue
            after, after_closed = content + op.record, is_closed or op.closes
            if op.writes and is_closed:
                continue
            if op.answered != NEVER:
                fits = op.writes or (op.content in (None, content) and op.saw_closed == is_closed)
                if not fits or op.end not in (None, len(after)):
                    continue
            if goes_on(left - {number}, after, after_closed):
                return True
        return False

    return goes_on(frozenset(range(len(ops))), b"", False)


def right_history(rng: random.Random) -> tuple[list[Op], bytes, bool]:
    """What a log would answer that carries out each request at some moment between its sending and its answer."""
    content, closed = b"", False
    ops: list[Op] = []
    for number in range(rng.randint(2, OPS_MAX)):
        moment = float(number)
        op = Op(moment - rng.choice((0.1, 0.6, 2.6)), moment + rng.choice((0.1, 0.6, 2.6)))
        kind = rng.choice(("append", "append", "read", "head", "close"))
        if kind in ("append", "close") and not closed:
            closed = kind == "close"
            record = b"" if closed and rng.random() < 0.5 else b"%d;" % number
            content += record
            op = replace(op, record=record, closes=closed)
        elif kind == "read":
            op = replace(op, content=content)
        op = replace(op, end=len(content), saw_closed=closed and not op.writes)
        if rng.random() < 0.15:
            op = replace(op, answered=NEVER, end=None, content=None, saw_closed=False)
        ops.append(op)
    return ops, content, closed


def spoilt(rng: random.Random, ops: list[Op], final: bytes, closed: bool) -> tuple[list[Op], bytes, bool]:
    """The same with one thing changed; often it is still right."""
    place = rng.randrange(len(ops))
    op, other = ops[place], rng.choice(ops)
    ops = list(ops)
    kind = rng.randrange(6)
    if kind == 0:
        ops[place] = replace(op, invoked=op.invoked + 3, answered=op.answered + 3)
    elif kind == 1 and op.answered != NEVER and other.end is not None:
        ops[place] = replace(op, end=other.end)
    elif kind == 2 and op.content is not None:
        ops[place] = replace(op, content=rng.choice((final, op.content[:-1], op.content + b"x")), end=None)
        ops[place] = replace(ops[place], end=len(ops[place].content or b""))
    elif kind == 3:
        final = rng.choice((final + op.record, final.replace(op.record, b"") if op.record else final[:-1]))
    elif kind == 4:
        closed = not closed
    elif op.answered != NEVER and not op.writes:
        ops[place] = replace(op, saw_closed=not op.saw_closed)
    return ops, final, closed


def test_the_judge_agrees_with_one_that_tries_every_order() -> None:
    seed = int(os.environ.get("HISTORY_SEED") or random.randrange(2**32))
    print(f"HISTORY_SEED={seed}")
    rng = random.Random(seed)
    verdicts = {True: 0, False: 0}
    for _ in range(HISTORIES):
        history = right_history(rng)
        assert difference(*history) is None, history
        assert explains(*history), history
        history = spoilt(rng, *history)
        found = difference(*history)
        assert (found is None) == explains(*history), (found, history)
        verdicts[found is None] += 1
    assert min(verdicts.values()) > HISTORIES / 10


def test_what_each_wrong_history_is_refused_for() -> None:
    append = Op(0, 1, record=b"a;", end=2)
    later = Op(2, 3, record=b"b;", end=4)
    right = [append, later]
    assert difference(right, b"a;b;", False) is None
    cases = [
        (right, b"b;a;", "ends at"),
        ([replace(append, end=None), replace(later, end=None)], b"b;a;", "answered before"),
        (right, b"a;", "0 times"),
        (right, b"a;b;a;", "2 times"),
        (right, b"a;b;c;", "6 bytes"),
        ([*right, Op(4, 5, content=b"a;", end=2)], b"a;b;", "answered before"),
        ([*right, Op(4, 5, content=b"a;b", end=3)], b"a;b;", "a part of a write"),
        ([*right, Op(4, 5, content=b"b;", end=2)], b"a;b;", "no prefix"),
        ([*right, Op(1, 1.5, end=4), Op(1.6, 1.7, end=2)], b"a;b;", "answered before"),
        ([*right, Op(4, 5, closes=True, end=4)], b"a;b;", "closed by one"),
        ([Op(0, 1, record=b"a;", closes=True), later], b"a;b;", "closed by one"),
    ]
    for ops, final, reason in cases:
        found = difference(ops, final, False)
        assert found is not None, (ops, final)
        assert reason in found
