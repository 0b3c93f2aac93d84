"""Every refusal with its status, problem type, title, code and detail, as one table (RFC 9457)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from durable_streams.protocol import errors
from durable_streams.protocol.errors import ProtocolError

TAIL = "1764289999123456_0000000000000030"

TABLE: list[tuple[ProtocolError, int, str, str, str, str]] = [
    # instance, status, type, title, code, detail
    (
        errors.StreamNotFound("a/b"),
        404,
        "not-found",
        "Stream Not Found",
        "NOT_FOUND",
        "Stream not found: a/b",
    ),
    (errors.RouteNotFound(), 404, "not-found", "Not Found", "NOT_FOUND", "Nothing is served at this path"),
    (
        errors.StreamExists("it is open"),
        409,
        "already-exists",
        "Stream Already Exists",
        "ALREADY_EXISTS",
        "Stream already exists with different configuration: it is open",
    ),
    (
        errors.ContentTypeMismatch("text/plain", "a/b"),
        409,
        "content-type-mismatch",
        "Content Type Mismatch",
        "CONTENT_TYPE_MISMATCH",
        "Content type mismatch: expected text/plain, got a/b",
    ),
    (errors.StreamClosed(TAIL), 409, "stream-closed", "Stream Closed", "STREAM_CLOSED", "Stream is closed"),
    (
        errors.ProducerSeqGap(2, 5),
        409,
        "sequence-conflict",
        "Sequence Conflict",
        "SEQUENCE_CONFLICT",
        "Producer sequence gap: expected 2, got 5",
    ),
    (
        errors.StreamSeqRegression("b", "a", "1_0"),
        409,
        "sequence-conflict",
        "Sequence Conflict",
        "SEQUENCE_CONFLICT",
        "Stream-Seq ordering violation: last=b, received=a",
    ),
    (
        errors.LimitReached("limits.max_streams", 3),
        429,
        "limit-reached",
        "Limit Reached",
        "LIMIT_REACHED",
        "limits.max_streams = 3 is reached",
    ),
    (
        errors.UnsupportedCoding("br", "zstd, gzip"),
        415,
        "unsupported-coding",
        "Unsupported Content Coding",
        "UNSUPPORTED_CODING",
        "Content-Encoding 'br' is not supported; supported: zstd, gzip",
    ),
    (
        errors.ExpectedOffsetMismatch("1_0"),
        409,
        "expected-offset-mismatch",
        "Expected Offset Mismatch",
        "EXPECTED_OFFSET_MISMATCH",
        "The stream does not end at the expected offset, but at 1_0",
    ),
    (
        errors.PreconditionFailed("If-Match", "1_0"),
        412,
        "precondition-failed",
        "Precondition Failed",
        "PRECONDITION_FAILED",
        "If-Match does not hold: the stream ends at 1_0",
    ),
    (
        errors.CrossOriginWrite("https://a"),
        403,
        "cross-origin-write",
        "Cross-Origin Write",
        "CROSS_ORIGIN_WRITE",
        "Pages of the origin 'https://a' may not write here",
    ),
    (
        errors.ForkFromDeleted("s"),
        409,
        "fork-from-tombstone",
        "Fork From Deleted Stream",
        "FORK_FROM_TOMBSTONE",
        "Cannot fork from deleted stream: s",
    ),
    (
        errors.PathBlocked("s"),
        409,
        "path-blocked",
        "Stream Path Blocked",
        "PATH_BLOCKED",
        "Stream path is reserved by a soft-deleted lineage: s",
    ),
    (
        errors.InvalidOffset("Invalid offset format: x"),
        400,
        "invalid-offset",
        "Invalid Offset",
        "INVALID_OFFSET",
        "Invalid offset format: x",
    ),
    (
        errors.InvalidStreamName("x"),
        400,
        "invalid-stream-name",
        "Invalid Stream Name",
        "INVALID_STREAM_NAME",
        "Invalid stream name: x",
    ),
    (errors.InvalidJson("x"), 400, "invalid-json", "Invalid JSON", "INVALID_JSON", "Invalid JSON: x"),
    (
        errors.EmptyBody(),
        400,
        "empty-body",
        "Empty Body",
        "EMPTY_BODY",
        "Empty request body requires Stream-Closed: true",
    ),
    (
        errors.EmptyArray(),
        400,
        "empty-array",
        "Empty Array",
        "EMPTY_ARRAY",
        "Empty JSON arrays are not permitted for append",
    ),
    (
        errors.StaleEpoch(3, 2),
        403,
        "producer-epoch-fenced",
        "Producer Epoch Fenced",
        "PRODUCER_EPOCH_FENCED",
        "Producer epoch fenced: current 3, received 2",
    ),
    (errors.BadRequest("why"), 400, "bad-request", "Bad Request", "BAD_REQUEST", "why"),
    (
        errors.InvalidHeader("X", "why"),
        400,
        "bad-request",
        "Bad Request",
        "BAD_REQUEST",
        "Invalid header value for X: why",
    ),
    (errors.InvalidBody("why"), 400, "invalid-body", "Invalid Body", "INVALID_BODY", "why"),
    (
        errors.MethodNotAllowed("PATCH", "GET"),
        405,
        "method-not-allowed",
        "Method Not Allowed",
        "METHOD_NOT_ALLOWED",
        "Method PATCH is not allowed here; allowed: GET",
    ),
    (errors.BodyTimeout("why"), 408, "request-timeout", "Request Timeout", "REQUEST_TIMEOUT", "why"),
    (errors.Conflict("why"), 409, "conflict", "Conflict", "CONFLICT", "why"),
    (errors.Unauthorized("no token"), 401, "unauthorized", "Unauthorized", "UNAUTHORIZED", "no token"),
    (errors.Forbidden("read only"), 403, "forbidden", "Forbidden", "FORBIDDEN", "read only"),
    (
        errors.TooManyRequests("10 a second", 3),
        429,
        "too-many-requests",
        "Too Many Requests",
        "TOO_MANY_REQUESTS",
        "10 a second",
    ),
    (errors.StreamGone("s"), 410, "gone", "Stream Gone", "GONE", "Stream is gone: s"),
    (
        errors.OffsetGone("s"),
        410,
        "offset-gone",
        "Offset Gone",
        "OFFSET_GONE",
        "The offset belongs to an earlier stream, and s was created after it; read again from offset -1",
    ),
    (
        errors.TooLarge("Memory limit exceeded"),
        413,
        "payload-too-large",
        "Payload Too Large",
        "PAYLOAD_TOO_LARGE",
        "Memory limit exceeded",
    ),
    (
        errors.RequestBodyTooLarge(10),
        413,
        "request-body-too-large",
        "Request Body Too Large",
        "REQUEST_BODY_TOO_LARGE",
        "The request body is larger than the limit of 10 bytes",
    ),
    (
        errors.Unavailable("secret"),
        503,
        "unavailable",
        "Service Unavailable",
        "UNAVAILABLE",
        "The server is temporarily unable to complete the request.",
    ),
    (
        errors.StaleDecision("secret"),
        503,
        "unavailable",
        "Service Unavailable",
        "UNAVAILABLE",
        "The server is temporarily unable to complete the request.",
    ),
    (
        errors.DocumentChanged("secret"),
        503,
        "unavailable",
        "Service Unavailable",
        "UNAVAILABLE",
        "The server is temporarily unable to complete the request.",
    ),
    (
        errors.StorageFull("secret"),
        507,
        "insufficient-storage",
        "Insufficient Storage",
        "INSUFFICIENT_STORAGE",
        "The server does not have enough storage capacity to complete the request.",
    ),
    (
        errors.TooManyMessages(10),
        413,
        "too-many-messages",
        "Too Many Messages",
        "TOO_MANY_MESSAGES",
        "The request holds more JSON messages than the limit of 10",
    ),
    (
        errors.InternalError("secret"),
        500,
        "internal",
        "Internal Server Error",
        "INTERNAL_ERROR",
        "The server encountered an internal error.",
    ),
    (
        errors.StreamDamaged("secret"),
        500,
        "internal",
        "Internal Server Error",
        "INTERNAL_ERROR",
        "The server encountered an internal error.",
    ),
    (
        errors.OutcomeUnknown("secret"),
        500,
        "internal",
        "Internal Server Error",
        "INTERNAL_ERROR",
        "The server encountered an internal error.",
    ),
    (
        errors.QuotaReached("team-a/", 1000),
        413,
        "quota-reached",
        "Quota Reached",
        "QUOTA_REACHED",
        "The streams below 'team-a/' may hold 1000 bytes together",
    ),
]


@pytest.mark.parametrize(
    ("error", "status", "kind", "title", "code", "detail"),
    TABLE,
    ids=[f"{type(row[0]).__name__}" for row in TABLE],
)
def test_the_problem_table(
    error: ProtocolError, status: int, kind: str, title: str, code: str, detail: str
) -> None:
    assert (error.status, error.type, error.title, error.code, error.detail) == (
        status,
        f"/errors/{kind}",
        title,
        code,
        detail,
    )


def subclasses(of: type[ProtocolError]) -> Iterator[type[ProtocolError]]:
    for found in of.__subclasses__():
        yield found
        yield from subclasses(found)


def test_the_table_holds_every_refusal() -> None:
    ours = {found for found in subclasses(ProtocolError) if found.__module__ == errors.__name__}
    rows = {type(row[0]) for row in TABLE}
    # These two are only the stems of others.
    assert ours - rows == {errors.NotFound, errors.SequenceConflict}


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (
            errors.StreamClosed(TAIL),
            {"Stream-Closed": "true", "Stream-Next-Offset": TAIL},
        ),
        (errors.StaleEpoch(3, 2), {"Producer-Epoch": "3"}),
        (errors.ProducerSeqGap(2, 5), {"Producer-Expected-Seq": "2", "Producer-Received-Seq": "5"}),
        (errors.MethodNotAllowed("PATCH", "GET, HEAD"), {"Allow": "GET, HEAD"}),
        (errors.Unavailable(), {"Retry-After": "1"}),
        (errors.Unauthorized("no token"), {"WWW-Authenticate": "Bearer"}),
        (errors.TooManyRequests("10 a second", 3), {"Retry-After": "3"}),
        (errors.StreamNotFound("s"), {}),
        (errors.StreamGone("s"), {}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_refusal_carries_the_headers_of_the_protocol(error: ProtocolError, headers: dict[str, str]) -> None:
    assert dict(error.headers) == headers


@pytest.mark.parametrize(
    "error",
    [
        errors.InternalError("secret"),
        errors.OutcomeUnknown("secret"),
        errors.StreamDamaged("secret"),
        errors.Unavailable("secret"),
        errors.StorageFull("secret"),
    ],
)
def test_the_cause_is_for_the_log_and_not_for_the_client(error: ProtocolError) -> None:
    assert error.__dict__["cause"] == "secret"
    assert "secret" not in error.detail + str(error.headers)
