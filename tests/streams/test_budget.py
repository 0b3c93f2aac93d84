"""What is remembered of streams counts at its real size, exactly as often as it is there."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from random import Random

import pytest

from durable_streams.protocol.errors import ProtocolError, TooLarge
from durable_streams.protocol.requests import Append, Create, ForkSource, Producer
from durable_streams.protocol.state import NO_EXPIRY, Expiry, StreamState
from durable_streams.service import StreamService
from durable_streams.storage.memory import InMemoryStorage
from durable_streams.streams.batch import Limits
from durable_streams.streams.budget import held_bytes
from durable_streams.streams.store import StreamStore

COUNT = 500
DATE = "2099-01-01T00:00:00.{:0200d}Z"


def opened(memory_bytes_max: int = 1 << 30) -> StreamStore:
    service = StreamService(InMemoryStorage(), Limits(memory_bytes_max=memory_bytes_max))
    service.open()
    return service.store


def text(number: int, length: int) -> str:
    """A text that no other object shares."""
    return f"{number:0{length}d}"


def create(
    name: str, content_type: str = "text/plain", expiry: Expiry = NO_EXPIRY, body: bytes = b""
) -> Create:
    return Create(name, content_type, expiry, False, body)


def append(name: str, producer: Producer | None = None, seq: str | None = None) -> Append:
    return Append(name, "text/plain", b"x", False, seq, producer)


KINDS: dict[str, Callable[[StreamStore, int], object]] = {
    "streams": lambda store, number: store.create(create(text(number, 20))),
    "names": lambda store, number: store.create(create(text(number, 1000))),
    "wide names": lambda store, number: store.create(create("\U0001f600" * 250 + text(number, 10))),
    "content types": lambda store, number: store.create(
        create(text(number, 20), "text/plain; x=" + text(number, 240))
    ),
    "windows": lambda store, number: store.create(
        create(text(number, 20), expiry=Expiry(ttl_s=1000 + number))
    ),
    "expiry texts": lambda store, number: store.create(
        create(text(number, 20), expiry=Expiry(None, 4_070_908_800.0 + number, DATE.format(number)))
    ),
    "producers": lambda store, number: store.append(append("s", Producer(text(number, 10), 0, 0))),
    "long producers": lambda store, number: store.append(append("s", Producer(text(number, 256), 0, 0))),
    "first producers": lambda store, number: (
        store.create(create(text(number, 20))),
        store.append(append(text(number, 20), Producer(text(number, 30), 0, 0))),
    ),
    "sequences": lambda store, number: (
        store.create(create(text(number, 20))),
        store.append(append(text(number, 20), seq=text(number, 256))),
    ),
    "forks": lambda store, number: store.create(
        Create(text(number, 20), None, NO_EXPIRY, False, b"", fork=ForkSource("s", None, 0))
    ),
    "payload": lambda store, number: store.create(create(text(number, 20), body=bytes(1000))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_counted_is_what_it_takes(kind: str) -> None:
    store = opened()
    store.create(create("s"))
    KINDS[kind](store, 10**9)
    budget = store.writes.budget
    gc.collect()
    tracemalloc.start()
    try:
        before = budget.total
        for number in range(COUNT):
            KINDS[kind](store, number)
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert 0.6 < (budget.total - before) / taken < 1.7, f"{(budget.total - before) / COUNT}, {taken / COUNT}"


def random_request(store: StreamStore, random: Random) -> None:
    name = random.choice("abc")
    producer = Producer(random.choice(("p", "q" * 100, "ü")), random.randrange(3), random.randrange(2))
    act = random.randrange(6)
    if act == 0:
        store.create(
            create(name, expiry=random.choice((NO_EXPIRY, Expiry(ttl_s=9))), body=b"x" * random.randrange(9))
        )
    elif act == 1:
        source = ForkSource(random.choice("abc"), None, 0)
        store.create(Create(name, None, NO_EXPIRY, False, b"", fork=source))
    elif act == 2:
        store.remove(name)
    elif act == 3:
        close = random.random() < 0.2
        store.append(Append(name, "text/plain", b"" if close else b"yy", close, None, producer))
    else:
        store.append(append(name, random.choice((None, producer)), text(random.randrange(10**6), 6)))


@pytest.mark.parametrize("seed", range(20))
def test_the_sum_is_always_that_of_all_streams(seed: int) -> None:
    store, random = opened(memory_bytes_max=3000), Random(seed)
    refused = 0
    for _ in range(300):
        try:
            random_request(store, random)
        except TooLarge:
            refused += 1
        except ProtocolError:
            pass
        states = [store.storage.known(name) for name in store.storage.names("", "", 100)]
        assert store.writes.budget.total == sum(map(held_bytes, states)), seed
    assert refused, seed
    for _ in range(3):
        for name in store.storage.names("", "", 100):
            state = store.storage.known(name)
            if state is not None and not state.deleted:
                store.remove(name)
    assert store.writes.budget.total == 0


def taken(ask: Callable[[int], object]) -> int:
    """How many requests are taken before the limit is reached."""
    for number in range(1000):
        try:
            ask(number)
        except TooLarge:
            return number
    raise AssertionError("there is no limit")


def test_streams_without_payload_run_into_the_limit_and_make_room_again() -> None:
    store = opened(memory_bytes_max=100_000)
    made = taken(lambda number: store.create(create(text(number, 500))))
    assert 50 < made < 100
    store.remove(text(0, 500))
    store.create(create(text(made, 500)))


def test_producers_run_into_the_limit_and_a_close_does_not() -> None:
    store = opened(memory_bytes_max=5000)
    store.create(create("s"))
    assert taken(lambda number: store.append(append("s", Producer(text(number, 256), 0, 0)))) > 1
    known = store.find("s")
    store.append(Append("s", None, b"", True, None, Producer(text(999, 256), 0, 0)))
    closed: StreamState = store.find("s")
    assert closed.closed
    assert len(closed.producers) == len(known.producers) + 1
    assert store.writes.budget.total == held_bytes(closed)
