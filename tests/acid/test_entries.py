"""The log of producers and forks: whatever changes, it has what a dict would have, and each entry is written seldom."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from BTrees.OOBTree import OOBTree

from durable_streams.protocol.state import (
    NO_EXPIRY,
    ForkReference,
    ProducerState,
    StreamConfig,
    StreamState,
)
from durable_streams.storage.zodb.entries import AT_ONCE, MERGED_RUNS, EntryLog, RunPart
from durable_streams.storage.zodb.model import INLINE_ENTRIES_MAX, Head

STATE = StreamState(StreamConfig("s", "i", "text/plain", NO_EXPIRY, None, 1), tail=0, touched_at=7.5)


def stay() -> None:
    """Nobody else has a turn."""


def test_a_log_has_the_newest_value_of_every_key_and_nothing_that_is_gone() -> None:
    seed = Random().randrange(10**9)
    print(f"seed {seed}")
    random, log, expected = Random(seed), EntryLog(), {}
    for step in range(400):
        changes = {
            str(random.randrange(500)): random.choice([step, None]) for _ in range(random.randint(1, 40))
        }
        log.add(changes, stay)
        expected |= changes
        assert log.entries(stay) == {key: value for key, value in expected.items() if value is not None}


def test_a_log_that_was_written_and_read_goes_on() -> None:
    log = EntryLog()
    for number in range(3 * MERGED_RUNS):
        log.add({f"{number}": number}, stay)
    again = EntryLog()
    again.__setstate__(log.__getstate__())
    again.add({"7": None}, stay)
    assert again.entries(stay) == {f"{number}": number for number in range(3 * MERGED_RUNS) if number != 7}


def test_what_an_add_gives_back_is_exactly_what_the_log_has_no_more() -> None:
    log = EntryLog()
    for number in range(200):
        before = log.parts
        unneeded = log.add({f"{number} {each}": each for each in range(33)}, stay)
        assert set(map(id, unneeded)) == set(map(id, before)) - set(map(id, log.parts))


def test_an_entry_is_written_a_few_times_in_all_and_runs_stay_few() -> None:
    log, added, written = EntryLog(), 0, 0
    known: dict[int, RunPart] = {}
    random = Random(1)
    for _ in range(1500):
        changes = {f"producer {random.randrange(100_000)}": (0, 1, 1) for _ in range(INLINE_ENTRIES_MAX + 1)}
        log.add(changes, stay)
        added += sum(map(len, (f"{each!r}" for each in changes.items())))
        written += sum(len(part.data) for part in log.parts if id(part) not in known)
        known = {id(part): part for part in log.parts}
        assert len(log.counts) < 60
    assert written < 6 * added


def test_a_big_run_lets_others_have_a_turn() -> None:
    turns: list[None] = []
    log = EntryLog()
    log.add({str(number): number for number in range(5 * AT_ONCE)}, lambda: turns.append(None))
    assert len(turns) == 4
    turns.clear()
    assert len(log.entries(lambda: turns.append(None))) == 5 * AT_ONCE
    assert len(turns) == 4


@pytest.mark.parametrize("changed", [(), ("p7",), ("p7", "p8")])
def test_a_tree_of_an_older_directory_is_read_and_becomes_a_log(changed: tuple[str, ...]) -> None:
    """They had (epoch, seq) of a producer, and the name alone of a fork."""
    head = Head(STATE)
    head.record(STATE)
    head.producers = OOBTree({f"p{number}": (1, number) for number in range(100)})
    head.forks = OOBTree({f"u{number}": f"fork {number}" for number in range(100)})
    read = Head(STATE)
    read.__setstate__(head.__getstate__())
    found = read.state()
    assert {id: (each.epoch, each.seq, each.seen_at) for id, each in found.producers.items()} == {
        f"p{number}": (1, number, 7) for number in range(100)
    }
    assert dict(found.forks) == {f"u{number}": ForkReference(f"fork {number}", 0.0) for number in range(100)}
    moved = {id: ProducerState(1, 500, 9) for id in changed}
    after = replace(found, producers={**found.producers, **moved}, revision=2)
    unneeded = read.record(after, changed)
    assert {id(head.producers), id(head.forks)} <= set(map(id, unneeded))
    assert isinstance(read.producers, EntryLog)
    assert isinstance(read.forks, EntryLog)
    again = read.state()
    assert dict(again.forks) == dict(found.forks)
    for key, each in again.producers.items():
        expected = after.producers[key]
        assert (each.epoch, each.seq, each.seen_at) == (expected.epoch, expected.seq, expected.seen_at)
    assert len(again.producers) == 100
