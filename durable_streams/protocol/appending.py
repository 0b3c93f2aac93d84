"""Appending and closing: what one POST does to a stream (sections 5.2, 5.2.1 and 5.3).

Checked in this order: exists, closed, content type, producer, expected offset, Stream-Seq, preconditions, body, size.
The first check that fails is the answer, and nothing of the request is kept.
"""

from __future__ import annotations

from durable_streams.persistent_map import with_entry
from durable_streams.protocol.caching import check_precondition
from durable_streams.protocol.content import media_type
from durable_streams.protocol.errors import (
    BadRequest,
    ContentTypeMismatch,
    DocumentChanged,
    EmptyArray,
    EmptyBody,
    ExpectedOffsetMismatch,
    LimitReached,
    ProtocolError,
    StaleDecision,
    StreamClosed,
    StreamSeqRegression,
    TooLarge,
)
from durable_streams.protocol.expiry import require_live
from durable_streams.protocol.messages.placing import Unfilled, to_unfilled, with_places
from durable_streams.protocol.messages.splitting import to_messages
from durable_streams.protocol.offsets import parse_offset
from durable_streams.protocol.outcomes import Appended, Decision, Done
from durable_streams.protocol.producers import drop_silent, is_duplicate, known_producer
from durable_streams.protocol.requests import Append, Create, Extend, Producer, StreamLimits
from durable_streams.protocol.state import ProducerState, StreamConfig, StreamState, evolve, grow


def decide_append(found: StreamState | None, request: Append, now: float, limits: StreamLimits) -> Decision:
    """One append, one closure, or both as one step; raises the ProtocolError that refuses it.

    Raises StaleDecision for messages that were made ready for another stream of this name.
    """
    state = require_live(found, request.name, now)
    if state.closed:
        return _repeated_close(state, request)
    if request.body:
        if request.content_type != state.config.content_type:
            _check_content_type(state, request.content_type)
    elif not request.close:
        raise EmptyBody()
    producer = request.producer
    if producer is not None:
        if limits.producers_max and producer.id not in state.producers:
            check_count("limits.max_producers_per_stream", limits.producers_max, len(state.producers))
        known = known_producer(state.producers, producer.id, now, limits)
        if is_duplicate(known, producer):
            return _unchanged(state, known)
    if request.expected_offset is not None and parse_offset(state.next_offset) != request.expected_offset:
        raise ExpectedOffsetMismatch(state.next_offset)
    if request.stream_seq is not None:
        _check_stream_seq(state, request.stream_seq)
    if request.precondition is not None:
        check_precondition(state, request.precondition)
    data: bytes | Unfilled = request.body
    if data and state.config.is_json:
        data = stored_messages(request, state.config)
        if not data:
            # Section 9.1.3: ``[]`` is no append.
            raise EmptyArray()
    if limits.bytes_max:
        check_size(state.own_bytes + len(data), limits)
    return _accept(state, request, data, now, limits)


def decide_extend(found: StreamState | None, request: Extend, now: float, limits: StreamLimits) -> Decision:
    """A document of the server with more in it; raises DocumentChanged unless it is what is to be extended.

    The limits are for streams of clients.
    """
    if found is None or found.config.uid != request.expected or found.tail != request.size:
        raise DocumentChanged(request.name)
    after = evolve(found, tail=found.tail + len(request.data), touched_at=now)
    return Decision(after, request.data, Done(after))


def stored_messages(request: Append | Create, config: StreamConfig) -> bytes | Unfilled:
    """The body of a JSON request as it is stored but for the offsets in it; raises what it is refused for."""
    messages = request.messages
    if isinstance(messages, ProtocolError):
        raise messages
    if messages is None:
        messages = to_messages(request.body)
        return to_unfilled(with_places(messages), len(messages)) if config.message_offsets else messages
    if isinstance(messages, Unfilled) != config.message_offsets:
        raise StaleDecision("the stream is another one by now")
    return messages


def check_count(setting: str, limit: int, count: int) -> None:
    """Raise LimitReached when there is no room for one more."""
    if count >= limit:
        raise LimitReached(setting, limit)


def check_size(own_bytes: int, limits: StreamLimits) -> None:
    if limits.bytes_max and own_bytes > limits.bytes_max:
        raise TooLarge("Stream size limit exceeded")


def _accept(
    state: StreamState, request: Append, data: bytes | Unfilled, now: float, limits: StreamLimits
) -> Decision:
    after = grow(state, len(data), now)
    if isinstance(data, Unfilled):
        data = data.fill(after.next_offset)
    producer = request.producer
    accepted = None
    entries: tuple[str, ...] = ()
    if producer is not None:
        accepted = ProducerState(producer.epoch, producer.seq, int(now))
        after.producers = with_entry(state.producers, producer.id, accepted)
        entries = (producer.id, *drop_silent(after, now, limits))
    if request.stream_seq is not None:
        after.stream_seq = request.stream_seq
    if request.close:
        after.closed, after.closed_by = True, _closing_tuple(producer)
    return Decision(after, data, Appended(after, accepted, bool(data)), None, entries)


def _repeated_close(state: StreamState, request: Append) -> Decision:
    """A closed stream accepts only what closed it, or one more closure without data."""
    producer = request.producer
    if producer is not None:
        if state.closed_by != _closing_tuple(producer):
            raise StreamClosed(state.next_offset)
        return _unchanged(state, state.producers.get(producer.id))
    if request.body or not request.close:
        raise StreamClosed(state.next_offset)
    return _unchanged(state, None)


def _unchanged(state: StreamState, producer: ProducerState | None) -> Decision:
    return Decision(state, b"", Appended(state, producer, has_data=False, duplicate=True))


def _closing_tuple(producer: Producer | None) -> tuple[str, int, int] | None:
    return None if producer is None else (producer.id, producer.epoch, producer.seq)


def _check_content_type(state: StreamState, received: str | None) -> None:
    config = state.config
    if received is None:
        raise BadRequest("Invalid header value for Content-Type: it is required when there is a body")
    if media_type(received) != config.media_type:
        raise ContentTypeMismatch(config.content_type, received)


def _check_stream_seq(state: StreamState, received: str) -> None:
    # Header values are Latin-1 text, so text order is the byte order that section 5.2 asks for.
    if state.stream_seq is not None and received <= state.stream_seq:
        raise StreamSeqRegression(state.stream_seq, received, state.next_offset)
