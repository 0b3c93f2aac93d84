"""The validation table of section 5.2.1, row for row, and the table of who is still remembered."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from durable_streams.persistent_map import FEW_MAX, compact
from durable_streams.protocol.appending import decide_append
from durable_streams.protocol.errors import BadRequest, ProducerSeqGap, ProtocolError, StaleEpoch
from durable_streams.protocol.headers import SAFE_INTEGER_MAX
from durable_streams.protocol.producers import LOOK_EVERY, is_duplicate, known_producer
from durable_streams.protocol.requests import UNLIMITED, Append, Producer, StreamLimits
from durable_streams.protocol.state import ProducerState
from tests.protocol.states import NOW, stream

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
    state = None if known is None else ProducerState(*known, 0)
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


DAY = 86_400
SEEN = 1_800_000_000


@pytest.mark.parametrize(
    ("ttl_s", "silent_s", "is_known"),
    [
        (0, 0, True),
        (0, 10_000 * DAY, True),
        (7 * DAY, 0, True),
        (7 * DAY, 7 * DAY, True),
        (7 * DAY, 7 * DAY + 1, False),
        (7 * DAY, 10_000 * DAY, False),
        (1, 1.5, False),
        # A clock that was set back makes nobody forget anything.
        (1, -3600, True),
    ],
)
def test_a_producer_is_known_until_it_has_been_silent_for_longer_than_its_ttl(
    ttl_s: int, silent_s: float, is_known: bool
) -> None:
    state = ProducerState(1, 5, SEEN)
    limits = StreamLimits(producer_ttl_s=ttl_s)
    assert known_producer({"p": state}, "p", SEEN + silent_s, limits) is (state if is_known else None)
    assert known_producer({"p": state}, "q", SEEN, limits) is None


def test_a_producer_that_was_forgotten_begins_again_at_sequence_0() -> None:
    before = stream(producers={"p": ProducerState(1, 5, int(NOW))})
    limits = StreamLimits(producer_ttl_s=60)
    request = Append("s", "text/plain", b"x", producer=Producer("p", 1, 6))
    assert decide_append(before, request, NOW + 60, limits).entries == ("p",)
    with pytest.raises(ProducerSeqGap) as refused:
        decide_append(before, request, NOW + 62, limits)
    assert refused.value.headers == (("Producer-Expected-Seq", "0"), ("Producer-Received-Seq", "6"))
    # Even with an epoch that was fenced.
    again = Append("s", "text/plain", b"x", producer=Producer("p", 0, 0))
    after = decide_append(before, again, NOW + 62, limits).state
    assert after is not None
    assert plain(after.producers) == {"p": (0, 0, int(NOW) + 62)}


@pytest.mark.parametrize("count", [1, 64, 65, 3000])
def test_silent_producers_are_dropped_by_the_appends_of_others_a_few_at_a_time(count: int) -> None:
    limits = StreamLimits(producer_ttl_s=60)
    silent = {f"silent {number}": ProducerState(0, 0, int(NOW)) for number in range(count)}
    state = stream(producers=compact(silent))
    now, dropped = NOW + 62, set()
    for seq in range(16**3 * LOOK_EVERY):
        request = Append("s", "text/plain", b"x", producer=Producer("p", 0, seq))
        decision = decide_append(state, request, now, limits)
        assert decision.state is not None
        newly = set(state.producers) - set(decision.state.producers) if len(decision.entries) > 1 else set()
        assert newly == set(decision.entries) - {"p"}
        assert len(newly) <= FEW_MAX + 1
        dropped |= newly
        state = decision.state
        if len(state.producers) == 1:
            break
    assert dropped == set(silent)
    assert plain(state.producers) == {"p": (0, seq, int(now))}


def test_nobody_is_dropped_without_a_ttl_or_before_it_has_passed() -> None:
    silent = {f"silent {number}": ProducerState(0, 0, int(NOW)) for number in range(30)}
    for limits, now in ((UNLIMITED, NOW + 10**9), (StreamLimits(producer_ttl_s=60), NOW + 60)):
        state = stream(producers=silent)
        for seq in range(3 * LOOK_EVERY):
            request = Append("s", "text/plain", b"x", producer=Producer("p", 0, seq))
            decided = decide_append(state, request, now, limits).state
            assert decided is not None
            state = decided
        assert len(state.producers) == 31


def plain(producers: Mapping[str, ProducerState]) -> dict[str, tuple[int, int, int]]:
    return {id: (known.epoch, known.seq, known.seen_at) for id, known in producers.items()}
