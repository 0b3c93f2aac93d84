"""Closure: durable, final, and one step with the last bytes (sections 4.1 and 5.3)."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from durable_streams.protocol.errors import StreamClosed, StreamNotFound
from durable_streams.protocol.outcomes import Appended
from tests.contract.driving import Streams, all_at_once, append_request


def test_a_closed_stream_stays_closed_and_readable(streams: Streams) -> None:
    streams.create(body=b"abc")
    outcome = streams.close_stream()
    assert (outcome.closed, outcome.tail) == (True, 3)
    assert streams.find().closed
    assert streams.read() == b"abc"
    for body, close in ((b"x", False), (b"x", True), (b"", False)):
        with pytest.raises(StreamClosed) as refused:
            streams.append(body=body, close=close)
        assert dict(refused.value.headers) == {
            "Stream-Closed": "true",
            "Stream-Next-Offset": streams.find().next_offset,
        }
    assert streams.read() == b"abc"


def test_closing_again_is_answered_as_the_first_time_and_changes_nothing(streams: Streams) -> None:
    streams.create(body=b"abc")
    streams.close_stream()
    before = streams.contents()
    streams.clock.now += 5
    outcome = streams.close_stream()
    assert (outcome.closed, outcome.tail, outcome.duplicate) == (True, 3, True)
    assert streams.contents() == before


def test_the_last_bytes_and_the_closure_are_one_step(streams: Streams) -> None:
    streams.create(body=b"first ")
    outcome = streams.append(body=b"last", close=True)
    assert (outcome.closed, outcome.tail) == (True, 10)
    assert streams.find().closed
    assert streams.read() == b"first last"


def test_there_is_nothing_to_close_where_there_is_no_stream(streams: Streams) -> None:
    with pytest.raises(StreamNotFound):
        streams.close_stream()
    assert streams.contents() == {}


@pytest.mark.parametrize("closing", [{"body": b"<end>"}, {"body": b"<end>", "producer": ("p", 0, 0)}])
def test_nothing_is_appended_behind_the_last_bytes_of_racing_writers(
    streams: Streams, closing: dict[str, Any]
) -> None:
    streams.create()
    writers = [partial(streams.store.append, append_request(body=b"%d " % number)) for number in range(30)]
    closers = [partial(streams.store.append, append_request(close=True, **closing))] * 3
    outcomes = all_at_once(*writers[:10], *closers, *writers[10:])
    appended = [outcome for outcome in outcomes if isinstance(outcome, Appended) and not outcome.duplicate]
    data = streams.read()
    assert data == b"".join(b"%d " % number for number in range(10)) + b"<end>"
    assert len(appended) == 11
    assert max(outcome.tail for outcome in appended) == len(data)
    refused = [outcome for outcome in outcomes if not isinstance(outcome, Appended)]
    assert all(isinstance(outcome, StreamClosed) for outcome in refused)
    # A repeated closure is a success only for the producer who made it.
    assert len(refused) == (20 if "producer" in closing else 22)


def test_a_reader_never_sees_the_last_bytes_without_the_closure(streams: Streams) -> None:
    streams.create()
    streams.append(body=b"last", close=True)
    seen = [
        (change.after.tail, change.after.closed) for change in streams.announced if change.after is not None
    ]
    assert (4, False) not in seen
    assert seen[-1] == (4, True)


def test_a_closure_survives_a_restart(lasting: Streams) -> None:
    lasting.create(body=b"abc")
    lasting.append(body=b"d", close=True, producer=("p", 2, 0))
    lasting.reopen()
    assert lasting.find().closed
    assert lasting.find().closed_by == ("p", 2, 0)
    assert lasting.append(body=b"d", close=True, producer=("p", 2, 0)).duplicate
    with pytest.raises(StreamClosed):
        lasting.append(body=b"e")
