"""The validation table of section 5.2.1, row for row."""

from __future__ import annotations

import pytest

from durable_streams.protocol.errors import BadRequest, ProducerSeqGap, ProtocolError, StaleEpoch
from durable_streams.protocol.headers import SAFE_INTEGER_MAX
from durable_streams.protocol.producers import is_duplicate
from durable_streams.protocol.requests import Producer
from durable_streams.protocol.state import ProducerState

ACCEPTED, DUPLICATE = False, True


@pytest.mark.parametrize(
    ("known", "received", "outcome"),
    [
        # epoch < state.epoch: 403, whatever the sequence
        ((5, 3), (4, 0), StaleEpoch(5, 4)),
        ((5, 3), (4, 3), StaleEpoch(5, 4)),
        ((5, 3), (0, 4), StaleEpoch(5, 0)),
        ((5, 3), (4, SAFE_INTEGER_MAX), StaleEpoch(5, 4)),
        # epoch > state.epoch: a new session starts at 0, or 400
        ((5, 3), (6, 0), ACCEPTED),
        ((5, 3), (100, 0), ACCEPTED),
        ((0, 0), (SAFE_INTEGER_MAX, 0), ACCEPTED),
        ((5, 3), (6, 1), BadRequest("")),
        ((5, 3), (6, 4), BadRequest("")),
        # the same epoch: at or before the last sequence is a duplicate
        ((5, 3), (5, 0), DUPLICATE),
        ((5, 3), (5, 2), DUPLICATE),
        ((5, 3), (5, 3), DUPLICATE),
        ((0, 0), (0, 0), DUPLICATE),
        # one more is the next, and any other a gap
        ((5, 3), (5, 4), ACCEPTED),
        ((5, 3), (5, 5), ProducerSeqGap(4, 5)),
        ((5, 3), (5, SAFE_INTEGER_MAX), ProducerSeqGap(4, SAFE_INTEGER_MAX)),
        # nobody knows this producer: any epoch, but sequence 0
        (None, (0, 0), ACCEPTED),
        (None, (7, 0), ACCEPTED),
        (None, (0, 1), ProducerSeqGap(0, 1)),
        (None, (7, 5), ProducerSeqGap(0, 5)),
    ],
)
def test_the_validation_table(
    known: tuple[int, int] | None, received: tuple[int, int], outcome: bool | ProtocolError
) -> None:
    state = None if known is None else ProducerState(*known)
    producer = Producer("p", *received)
    if isinstance(outcome, bool):
        assert is_duplicate(state, producer) is outcome
        return
    with pytest.raises(type(outcome)) as refused:
        is_duplicate(state, producer)
    assert type(refused.value) is type(outcome)
    assert refused.value.status == outcome.status
    assert refused.value.headers == outcome.headers


def test_a_fenced_producer_is_told_the_current_epoch() -> None:
    assert StaleEpoch(5, 4).headers == (("Producer-Epoch", "5"),)
    assert StaleEpoch(5, 4).status == 403


def test_a_gap_names_what_was_expected_and_what_came() -> None:
    assert dict(ProducerSeqGap(4, 6).headers) == {
        "Producer-Expected-Seq": "4",
        "Producer-Received-Seq": "6",
    }
    assert ProducerSeqGap(4, 6).status == 409
