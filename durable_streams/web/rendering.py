"""Outcome -> status, headers, body (sections 5.1 to 5.7)."""

from __future__ import annotations

from typing import Final

from durable_streams.protocol.caching import NO_STORE
from durable_streams.protocol.outcomes import Appended, Created
from durable_streams.protocol.state import StreamState
from durable_streams.streams.store import Page
from durable_streams.web.response import Header, Response

NEXT_OFFSET: Final = "Stream-Next-Offset"
CURSOR: Final = "Stream-Cursor"
CLOSED: Final[Header] = ("Stream-Closed", "true")
MESSAGE_OFFSETS: Final[Header] = ("Stream-Message-Offsets", "true")
SANDBOX: Final[Header] = ("Content-Security-Policy", "sandbox")
"""A stream of ``text/html`` or SVG must not run scripts in the origin of the server."""
UP_TO_DATE: Final[Header] = ("Stream-Up-To-Date", "true")


def created(outcome: Created, location: str) -> Response:
    state = outcome.state
    headers = [("Content-Type", state.config.content_type), (NEXT_OFFSET, state.next_offset)]
    if not outcome.existed:
        headers.append(("Location", location))
    if state.config.message_offsets:
        headers.append(MESSAGE_OFFSETS)
    if state.closed:
        headers.append(CLOSED)
    return Response(200 if outcome.existed else 201, headers)


def appended(outcome: Appended) -> Response:
    """204; 200 when an idempotent producer's data was new (section 5.2.1)."""
    state = outcome.state
    headers = [(NEXT_OFFSET, state.next_offset)]
    if state.closed:
        headers.append(CLOSED)
    producer = outcome.producer
    if producer is None:
        return Response(204, headers)
    headers.append(("Producer-Epoch", str(producer.epoch)))
    headers.append(("Producer-Seq", str(producer.seq)))
    return Response(200 if outcome.has_data else 204, headers)


def metadata(state: StreamState) -> Response:
    """HEAD (section 5.5). Stream-TTL is the window, not the time left of it."""
    expiry = state.config.expiry
    headers = [
        ("Content-Type", state.config.content_type),
        (NEXT_OFFSET, state.next_offset),
        ("Cache-Control", NO_STORE),
    ]
    if expiry.ttl_s is not None:
        headers.append(("Stream-TTL", str(expiry.ttl_s)))
    if expiry.expires_at_text is not None:
        headers.append(("Stream-Expires-At", expiry.expires_at_text))
    if state.config.message_offsets:
        headers.append(MESSAGE_OFFSETS)
    if state.closed:
        headers.append(CLOSED)
    return Response(200, headers, iter(()))


def page(found: Page, cache_control: str, tag: str | None, cursor: str | None) -> Response:
    """Catch-up or long-poll data. Stream-Up-To-Date and Stream-Closed only when the page reaches the tail."""
    state = found.state
    headers = [
        ("Content-Type", state.config.content_type),
        SANDBOX,
        *_position(found, cache_control, tag, cursor),
    ]
    if found.more is None:
        return Response(200, headers, found.body)
    return Response(200, headers, found.pieces(), found.pieces_bytes)


def not_modified(found: Page, cache_control: str, tag: str | None, cursor: str | None) -> Response:
    return Response(304, _position(found, cache_control, tag, cursor))


def nothing_new(state: StreamState, cursor: str) -> Response:
    """The 204 of a long-poll: a timeout, or the end of a closed stream."""
    headers = [(NEXT_OFFSET, state.next_offset), UP_TO_DATE, ("Cache-Control", NO_STORE)]
    headers.append(CLOSED if state.closed else (CURSOR, cursor))
    return Response(204, headers)


def finished(state: StreamState) -> Response:
    """The 204 for an ``EventSource`` that has the whole of a closed stream: by the HTML standard it lets go."""
    return Response(204, [(NEXT_OFFSET, state.next_offset), UP_TO_DATE, ("Cache-Control", NO_STORE), CLOSED])


def _position(found: Page, cache_control: str, tag: str | None, cursor: str | None) -> list[Header]:
    headers = [(NEXT_OFFSET, found.next_offset), ("Cache-Control", cache_control)]
    if tag is not None:
        headers.append(("ETag", tag))
    if cursor is not None:
        headers.append((CURSOR, cursor))
    if found.at_tail:
        headers.append(UP_TO_DATE)
        if found.state.closed:
            headers.append(CLOSED)
    return headers
