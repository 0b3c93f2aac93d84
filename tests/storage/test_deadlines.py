"""Deadlines: whatever is noted in whatever order, what is due is found, no more and no less."""

from __future__ import annotations

import random
from dataclasses import replace

from durable_streams.protocol.state import NO_EXPIRY, RECHECK_DELETED_S, Expiry, StreamConfig, StreamState
from durable_streams.storage.deadlines import Deadlines


def state(name: str, expiry: Expiry, touched_at: float = 0.0) -> StreamState:
    return StreamState(StreamConfig(name, "i", "text/plain", expiry, None, 1), 0, touched_at)


class Book:
    """The recorded states, and their deadlines."""

    def __init__(self) -> None:
        self.states: dict[str, StreamState] = {}
        self.deadlines = Deadlines()

    def record(self, recorded: StreamState) -> None:
        self.states[recorded.name] = recorded
        self.deadlines.note(recorded)

    def due(self, now: float, limit: int = 100) -> set[str]:
        found = self.deadlines.due(now, limit, self.states.get)
        assert len(set(found)) == len(found) <= limit
        return set(found)


def test_a_stream_is_due_at_its_deadline_and_not_before() -> None:
    book = Book()
    book.record(state("window", Expiry(ttl_s=10)))
    book.record(state("instant", Expiry(expires_at=20.0)))
    book.record(state("for ever", NO_EXPIRY))
    assert [book.due(now) for now in (9.9, 10.0, 19.9, 20.0)] == [
        set(),
        {"window"},
        {"window"},
        {"window", "instant"},
    ]


def test_a_renewal_moves_the_deadline_on() -> None:
    book = Book()
    for touched_at in (0.0, 3.0, 8.0):
        book.record(state("s", Expiry(ttl_s=10), touched_at))
    assert [book.due(now) for now in (10.0, 13.0, 17.9, 18.0)] == [set(), set(), set(), {"s"}]


def test_a_stream_that_has_gone_is_not_due_and_its_name_may_come_back() -> None:
    book = Book()
    book.record(state("s", Expiry(ttl_s=10)))
    del book.states["s"]
    assert book.due(100.0) == set()
    book.record(state("s", Expiry(ttl_s=10), 100.0))
    assert [book.due(now) for now in (109.0, 110.0)] == [set(), {"s"}]


def test_a_stream_that_comes_back_with_an_earlier_deadline_is_due_then() -> None:
    book = Book()
    book.record(state("s", Expiry(ttl_s=1000)))
    book.record(state("s", Expiry(ttl_s=10)))
    assert book.due(10.0) == {"s"}


def test_a_soft_deleted_stream_is_due_after_an_interval() -> None:
    book = Book()
    book.record(replace(state("s", Expiry(ttl_s=10), 5.0), deleted=True))
    assert [book.due(now) for now in (15.0, 4.9 + RECHECK_DELETED_S, 5.0 + RECHECK_DELETED_S)] == [
        set(),
        set(),
        {"s"},
    ]


def test_what_a_limit_leaves_out_is_found_when_the_others_have_gone() -> None:
    book = Book()
    for number in range(10):
        book.record(state(f"s{number}", Expiry(ttl_s=number)))
    gone: list[str] = []
    while found := book.due(100.0, limit=3):
        for name in found:
            del book.states[name]
        gone += sorted(found)
    # The earliest go first.
    assert gone == [f"s{number}" for number in range(10)]


def test_any_history_finds_what_a_look_at_every_state_finds() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chosen = random.Random(seed)
    book = Book()
    now = 0.0
    for _ in range(5000):
        now += chosen.random()
        name = f"s{chosen.randrange(20)}"
        match chosen.randrange(4):
            case 0:
                book.states.pop(name, None)
            case 1:
                expiry = chosen.choice(
                    [
                        NO_EXPIRY,
                        Expiry(ttl_s=chosen.randrange(50)),
                        Expiry(expires_at=now + chosen.randrange(50)),
                    ]
                )
                book.record(state(name, expiry, now))
            case 2 if name in book.states:
                book.record(replace(book.states[name], touched_at=now))
            case 3:
                due = {
                    name
                    for name, found in book.states.items()
                    if found.due_at is not None and found.due_at <= now
                }
                assert book.due(now) == due
