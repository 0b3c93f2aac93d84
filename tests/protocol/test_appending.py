"""One POST: the order of the checks, closure, Stream-Seq and limits (sections 5.2, 5.2.1 and 5.3)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.protocol.appending import decide_append
from durable_streams.protocol.caching import Precondition
from durable_streams.protocol.errors import (
    BadRequest,
    ContentTypeMismatch,
    EmptyArray,
    EmptyBody,
    ExpectedOffsetMismatch,
    InvalidJson,
    PreconditionFailed,
    ProducerSeqGap,
    ProtocolError,
    StaleEpoch,
    StreamClosed,
    StreamGone,
    StreamNotFound,
    StreamSeqRegression,
    TooLarge,
)
from durable_streams.protocol.offsets import Offset
from durable_streams.protocol.outcomes import Appended
from durable_streams.protocol.requests import Append, Producer, StreamLimits
from durable_streams.protocol.state import Expiry, ForkPoint, ProducerState, StreamState
from tests.protocol.states import LIFE, NOW, references, stream


def append(
    state: StreamState | None, body: bytes = b"x", limit: int = 0, now: float = NOW + 1, **more: Any
) -> tuple[StreamState, bytes, Appended]:
    more = {"content_type": "text/plain", **more}
    decision = decide_append(state, Append("s", body=body, **more), now, StreamLimits(bytes_max=limit))
    assert decision.state is not None
    assert isinstance(decision.outcome, Appended)
    return decision.state, decision.data, decision.outcome


def test_an_append_moves_the_tail_and_renews_the_window() -> None:
    before = stream(5, stream_seq="a", producers={"p": ProducerState(0, 1, int(NOW))})
    after, data, outcome = append(before, b"abc")
    assert (after.tail, after.touched_at, after.closed, data) == (8, NOW + 1, False, b"abc")
    assert (after.stream_seq, dict(after.producers)) == ("a", dict(before.producers))
    assert (outcome.tail, outcome.closed, outcome.duplicate, outcome.has_data) == (8, False, False, True)
    assert before.tail == 5


def test_an_append_keeps_what_it_does_not_name() -> None:
    point = ForkPoint("t", "j", 3, 3, 0, True, LIFE - 1)
    before = stream(5, fork=point, forks=references("k"), expiry=Expiry(ttl_s=9))
    after, _, _ = append(before)
    assert after.config is before.config
    assert after.forks == before.forks


@pytest.mark.parametrize("body", [b"", b"last"])
def test_a_closure_with_or_without_data_is_one_step(body: bytes) -> None:
    after, data, outcome = append(stream(5), body, close=True)
    assert (after.tail, after.closed, after.closed_by, data) == (5 + len(body), True, None, body)
    assert (outcome.closed, outcome.tail, outcome.has_data) == (True, after.tail, bool(body))


REFUSED: list[tuple[str, StreamState | None, dict[str, Any], type[ProtocolError]]] = [
    ("no stream", None, {}, StreamNotFound),
    ("no stream and no body", None, {"body": b""}, StreamNotFound),
    ("expired", stream(expiry=Expiry(ttl_s=1), touched_at=NOW - 9), {}, StreamNotFound),
    ("deleted", stream(deleted=True, forks=references("k")), {}, StreamGone),
    (
        "expired, but forks read it",
        stream(expiry=Expiry(ttl_s=1), touched_at=NOW - 9, forks=references("k")),
        {},
        StreamGone,
    ),
    ("closed", stream(closed=True), {}, StreamClosed),
    ("closed, and another content type", stream(closed=True), {"content_type": "a/b"}, StreamClosed),
    ("closed, and no content type", stream(closed=True), {"content_type": None}, StreamClosed),
    ("closed, and no body", stream(closed=True), {"body": b""}, StreamClosed),
    ("closed, and a closing body", stream(closed=True), {"close": True}, StreamClosed),
    ("closed, and a sequence", stream(closed=True, stream_seq="b"), {"stream_seq": "a"}, StreamClosed),
    (
        "closed, and an old epoch",
        stream(closed=True, producers={"p": ProducerState(5, 0, int(NOW))}),
        {"producer": Producer("p", 4, 0)},
        StreamClosed,
    ),
    ("another content type", stream(), {"content_type": "text/html"}, ContentTypeMismatch),
    ("no content type", stream(), {"content_type": None}, BadRequest),
    (
        "another content type, and an old epoch",
        stream(producers={"p": ProducerState(5, 0, int(NOW))}),
        {"content_type": "text/html", "producer": Producer("p", 4, 0)},
        ContentTypeMismatch,
    ),
    (
        "an old epoch, and an old sequence",
        stream(producers={"p": ProducerState(5, 0, int(NOW))}, stream_seq="b"),
        {"producer": Producer("p", 4, 0), "stream_seq": "a"},
        StaleEpoch,
    ),
    ("a gap", stream(), {"producer": Producer("p", 0, 1)}, ProducerSeqGap),
    (
        "a closure with a gap",
        stream(),
        {"producer": Producer("p", 0, 1), "close": True, "body": b""},
        ProducerSeqGap,
    ),
    ("an old sequence", stream(stream_seq="b"), {"stream_seq": "a"}, StreamSeqRegression),
    (
        "an old sequence, though the producer's is right",
        stream(stream_seq="b"),
        {"stream_seq": "a", "producer": Producer("p", 0, 0)},
        StreamSeqRegression,
    ),
    ("another end", stream(5), {"expected_offset": Offset(LIFE, 4)}, ExpectedOffsetMismatch),
    ("the end of another life", stream(5), {"expected_offset": Offset(LIFE - 1, 5)}, ExpectedOffsetMismatch),
    (
        "a closure at another end",
        stream(5),
        {"expected_offset": Offset(LIFE, 6), "body": b"", "close": True},
        ExpectedOffsetMismatch,
    ),
    (
        "the end, but an old sequence",
        stream(5, stream_seq="b"),
        {"expected_offset": Offset(LIFE, 5), "stream_seq": "a"},
        StreamSeqRegression,
    ),
    (
        "another end, and an old sequence",
        stream(5, stream_seq="b"),
        {"expected_offset": Offset(LIFE, 4), "stream_seq": "a"},
        ExpectedOffsetMismatch,
    ),
    (
        "another end, and a gap",
        stream(5),
        {"expected_offset": Offset(LIFE, 4), "producer": Producer("p", 0, 1)},
        ProducerSeqGap,
    ),
    ("closed, and another end", stream(5, closed=True), {"expected_offset": Offset(LIFE, 4)}, StreamClosed),
    ("another tag", stream(5), {"precondition": Precondition('"x:0:5"', None)}, PreconditionFailed),
    (
        "another tag, and an old sequence",
        stream(5, stream_seq="b"),
        {"precondition": Precondition('"x:0:5"', None), "stream_seq": "a"},
        StreamSeqRegression,
    ),
    ("no stream, and any tag", None, {"precondition": Precondition("*", None)}, StreamNotFound),
    ("no body", stream(), {"body": b""}, EmptyBody),
    ("no body, but a producer", stream(), {"body": b"", "producer": Producer("p", 0, 0)}, EmptyBody),
    ("too large", stream(5), {"body": b"12345", "limit": 9}, TooLarge),
]


@pytest.mark.parametrize(
    ("state", "request_", "error"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_the_first_check_that_fails_is_the_answer(
    state: StreamState | None, request_: dict[str, Any], error: type[ProtocolError]
) -> None:
    with pytest.raises(error):
        append(state, **request_)


@pytest.mark.parametrize("body", [b"", b"x"])
def test_an_append_is_carried_out_where_the_stream_ends_as_expected(body: bytes) -> None:
    """A fork that has appended nothing ends at the offset of its source."""
    point = ForkPoint("t", "j", 5, 5, 0, True, LIFE - 1)
    for state, life in ((stream(5), LIFE), (stream(5, fork=point), LIFE - 1), (stream(6, fork=point), LIFE)):
        after, data, _ = append(state, body, close=True, expected_offset=Offset(life, state.tail))
        assert (after.closed, data) == (True, body)


def test_a_repeated_append_of_a_producer_is_none_whatever_it_expects() -> None:
    state = stream(5, producers={"p": ProducerState(0, 3, int(NOW))})
    for more in ({"expected_offset": Offset(LIFE, 0)}, {"precondition": Precondition('"x"', None)}):
        _, _, outcome = append(state, producer=Producer("p", 0, 3), **more)
        assert outcome.duplicate


def test_a_refused_sequence_names_the_end() -> None:
    for more in ({"stream_seq": "a"}, {"expected_offset": Offset(LIFE, 4)}):
        state = stream(5, stream_seq="b")
        with pytest.raises(ProtocolError) as refused:
            append(state, **more)
        assert dict(refused.value.headers) == {"Stream-Next-Offset": state.next_offset}


@pytest.mark.parametrize(
    ("body", "error"), [(b"[]", EmptyArray), (b"{", InvalidJson), (b"\xff", InvalidJson)]
)
@pytest.mark.parametrize("close", [False, True])
def test_json_that_is_none_is_refused_also_as_the_last(
    body: bytes, error: type[ProtocolError], close: bool
) -> None:
    state = stream(content_type="application/json")
    with pytest.raises(error):
        append(state, body, content_type="application/json", close=close)


@pytest.mark.parametrize(
    "content_type", ["text/plain", "TEXT/plain", "text/plain; charset=latin-1", "text/plain;x=y"]
)
def test_the_media_type_alone_is_compared(content_type: str) -> None:
    state = stream(content_type="text/plain; charset=utf-8")
    after, _, _ = append(state, content_type=content_type)
    assert after.config.content_type == "text/plain; charset=utf-8"


@pytest.mark.parametrize("content_type", [None, "a/b", "application/json"])
def test_a_closure_without_body_looks_at_no_content_type(content_type: str | None) -> None:
    after, _, _ = append(stream(), b"", content_type=content_type, close=True)
    assert after.closed


# -- closed streams -------------------------------------------------------------------------------------------------


def test_closing_a_closed_stream_again_changes_nothing() -> None:
    before = stream(5, closed=True)
    after, data, outcome = append(before, b"", close=True)
    assert after is before
    assert (data, outcome.duplicate, outcome.closed, outcome.tail) == (b"", True, True, 5)


@pytest.mark.parametrize("body", [b"", b"last"])
def test_the_closing_request_of_a_producer_can_be_repeated(body: bytes) -> None:
    closing: dict[str, Any] = {"body": body, "close": True, "producer": Producer("p", 2, 0)}
    closed, _, _ = append(stream(5), **closing)
    assert closed.closed_by == ("p", 2, 0)
    again, data, outcome = append(closed, **closing)
    assert again is closed
    assert (data, outcome.duplicate, outcome.closed) == (b"", True, True)
    assert outcome.producer is not None
    assert (outcome.producer.epoch, outcome.producer.seq) == (2, 0)


@pytest.mark.parametrize(
    "producer", [Producer("p", 2, 1), Producer("p", 2, 3), Producer("p", 3, 0), Producer("q", 2, 2)]
)
def test_nobody_else_may_repeat_it(producer: Producer) -> None:
    closed = stream(
        5,
        closed=True,
        closed_by=("p", 2, 2),
        producers={"p": ProducerState(2, 2, int(NOW)), "q": ProducerState(2, 2, int(NOW))},
    )
    for close in (False, True):
        with pytest.raises(StreamClosed) as refused:
            append(closed, close=close, producer=producer)
        assert dict(refused.value.headers)["Stream-Closed"] == "true"


# -- producers ------------------------------------------------------------------------------------------------------


def test_an_accepted_batch_is_remembered_beside_the_other_producers() -> None:
    before = stream(producers={"p": ProducerState(1, 4, int(NOW)), "q": ProducerState(0, 9, int(NOW))})
    after, _, outcome = append(before, producer=Producer("p", 1, 5))
    assert {key: (p.epoch, p.seq) for key, p in after.producers.items()} == {"p": (1, 5), "q": (0, 9)}
    assert {key: (p.epoch, p.seq) for key, p in before.producers.items()} == {"p": (1, 4), "q": (0, 9)}
    assert outcome.producer is not None
    assert (outcome.producer.epoch, outcome.producer.seq) == (1, 5)


def test_a_duplicate_changes_nothing_and_names_the_highest_sequence() -> None:
    before = stream(5, producers={"p": ProducerState(1, 4, int(NOW))}, stream_seq="b")
    after, data, outcome = append(before, b"other", producer=Producer("p", 1, 2), stream_seq="c", close=True)
    assert after is before
    assert (data, outcome.duplicate, outcome.closed) == (b"", True, False)
    assert outcome.producer is not None
    assert outcome.producer.seq == 4


def test_a_duplicate_is_told_before_an_old_stream_seq() -> None:
    before = stream(5, producers={"p": ProducerState(1, 4, int(NOW))}, stream_seq="b")
    _, _, outcome = append(before, producer=Producer("p", 1, 4), stream_seq="b")
    assert outcome.duplicate


# -- Stream-Seq -----------------------------------------------------------------------------------------------------

HEADER_TEXT = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=6)


@given(HEADER_TEXT, HEADER_TEXT)
def test_stream_seq_is_compared_byte_by_byte(last: str, received: str) -> None:
    before = stream(stream_seq=last)
    if received.encode("latin-1") > last.encode("latin-1"):
        after, _, _ = append(before, stream_seq=received)
        assert after.stream_seq == received
    else:
        with pytest.raises(StreamSeqRegression):
            append(before, stream_seq=received)


@pytest.mark.parametrize(("last", "received"), [("9", "10"), ("b", "B"), ("a", "a"), ("a", ""), ("ab", "a")])
def test_a_sequence_is_text_and_no_number(last: str, received: str) -> None:
    with pytest.raises(StreamSeqRegression):
        append(stream(stream_seq=last), stream_seq=received)


def test_without_a_sequence_the_last_one_stays() -> None:
    after, _, _ = append(stream(stream_seq="b"))
    assert after.stream_seq == "b"


# -- size -----------------------------------------------------------------------------------------------------------


def test_a_stream_may_be_filled_to_the_last_byte() -> None:
    after, _, _ = append(stream(5), b"12345", limit=10)
    assert after.tail == 10
    with pytest.raises(TooLarge, match="Stream size limit exceeded"):
        append(after, b"6", limit=10)


def test_what_a_fork_inherits_does_not_count() -> None:
    fork = stream(100, fork=ForkPoint("t", "j", 95, 95, 0, True, LIFE - 1))
    after, _, _ = append(fork, b"12345", limit=10)
    assert after.own_bytes == 10


def test_a_full_stream_can_still_be_closed() -> None:
    after, _, _ = append(stream(10), b"", close=True, limit=10)
    assert after.closed
