"""Events survive being written and read, whatever they hold."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.protocol.subscriptions import events
from durable_streams.subscriptions.records import UnreadableRecord, decode_steps, encode_step
from tests.subscriptions.scene import Scene, pull_wake, webhook

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
st.register_type_strategy(str, TEXT)
st.register_type_strategy(float, st.floats(0, 4e9))
st.register_type_strategy(int, st.integers(0, 2**53))
EVENTS = st.one_of(*(st.from_type(kind) for kind in get_args(events.Event)))


@given(st.lists(st.lists(EVENTS, min_size=1, max_size=4), max_size=4))
def test_steps_are_read_as_they_were_written(steps: list[list[events.Event]]) -> None:
    body = b"".join(map(encode_step, steps))
    assert body.count(b"\n") == len(steps)
    assert list(decode_steps(body)) == [event for step in steps for event in step]


def test_one_ack_among_many_links_is_a_small_record() -> None:
    scene = Scene(pull_wake(streams=tuple(f"manual/{number}" for number in range(10_000))))
    scene.subscribe()
    scene.append("manual/77")
    scene.claim()
    assert len(encode_step(scene.ack(("manual/77", scene.tail_of("manual/77"))).events)) < 120


def test_unknown_fields_are_ignored_and_missing_ones_have_their_defaults() -> None:
    line = b'[["Woken",{"wake_id":"w","generation":1,"at":2.0,"trigger":"a","color":"red"}]]\n'
    assert list(decode_steps(line)) == [events.Woken("w", 1, 2.0, "a")]


@pytest.mark.parametrize(
    "line", [b"[", b'{"a":1}', b'[["Moved",{}]]', b'[["Ended",{}]]', b'[["Ended",{"reason":1}]]']
)
def test_lines_that_are_none_are_told(line: bytes) -> None:
    with pytest.raises(UnreadableRecord):
        list(decode_steps(line + b"\n"))


def test_a_subscription_is_the_same_when_its_events_have_been_written_and_read() -> None:
    scene = Scene(webhook(max_attempts=3, dead_letter_stream="dead", description="\N{EURO SIGN}\n\u2028"))
    scene.create("events/old", 5)
    scene.subscribe()
    scene.append("events/a")
    scene.wake_up()
    scene.fail()
    found = None
    for event in decode_steps(encode_step(scene.log) + b""):
        found = events.apply(found, event)
    assert found == scene.sub
