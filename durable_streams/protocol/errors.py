"""Every way a request can be refused, one class each.

A class carries the HTTP status, the problem type, its title and its machine code (RFC 9457); an instance adds the
detail and the protocol's own headers. Rendering belongs to the web floor, which needs to know no class by name.
"""

from __future__ import annotations

from collections.abc import Iterable

Header = tuple[str, str]


class ProtocolError(Exception):
    """A refusal that the client may see: ``detail`` says what was wrong, ``headers`` go with the answer."""

    status: int = 500
    type: str = "/errors/internal"
    title: str = "Internal Server Error"
    code: str = "INTERNAL_ERROR"

    def __init__(self, detail: str, headers: Iterable[Header] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = tuple(headers)


class BadRequest(ProtocolError):
    status, type, title, code = 400, "/errors/bad-request", "Bad Request", "BAD_REQUEST"


class InvalidHeader(BadRequest):
    """A request header (or query parameter) whose value cannot be understood."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"Invalid header value for {name}: {reason}")


class InvalidOffset(ProtocolError):
    status, type, title, code = 400, "/errors/invalid-offset", "Invalid Offset", "INVALID_OFFSET"


class InvalidStreamName(ProtocolError):
    status, type, title, code = (
        400,
        "/errors/invalid-stream-name",
        "Invalid Stream Name",
        "INVALID_STREAM_NAME",
    )

    def __init__(self, reason: str) -> None:
        super().__init__(f"Invalid stream name: {reason}")


class InvalidJson(ProtocolError):
    status, type, title, code = 400, "/errors/invalid-json", "Invalid JSON", "INVALID_JSON"

    def __init__(self, reason: str) -> None:
        super().__init__(f"Invalid JSON: {reason}")


class EmptyBody(ProtocolError):
    status, type, title, code = 400, "/errors/empty-body", "Empty Body", "EMPTY_BODY"

    def __init__(self) -> None:
        super().__init__("Empty request body requires Stream-Closed: true")


class EmptyArray(ProtocolError):
    status, type, title, code = 400, "/errors/empty-array", "Empty Array", "EMPTY_ARRAY"

    def __init__(self) -> None:
        super().__init__("Empty JSON arrays are not permitted for append")


class InvalidBody(ProtocolError):
    """The body ended early, or its transfer coding was broken."""

    status, type, title, code = 400, "/errors/invalid-body", "Invalid Body", "INVALID_BODY"


class Unauthorized(ProtocolError):
    """A gate needs to know who asks (section 12.1); ``challenge`` is the WWW-Authenticate header."""

    status, type, title, code = 401, "/errors/unauthorized", "Unauthorized", "UNAUTHORIZED"

    def __init__(self, detail: str, challenge: str = "Bearer") -> None:
        super().__init__(detail, [("WWW-Authenticate", challenge)])


class Forbidden(ProtocolError):
    """A gate knows who asks and does not allow it (section 12.1)."""

    status, type, title, code = 403, "/errors/forbidden", "Forbidden", "FORBIDDEN"


class CrossOriginWrite(Forbidden):
    """A browser sends a write of a page whose origin may not use the server (section 12.7)."""

    type, title, code = "/errors/cross-origin-write", "Cross-Origin Write", "CROSS_ORIGIN_WRITE"

    def __init__(self, origin: str) -> None:
        super().__init__(f"Pages of the origin {origin!r} may not write here")


class StaleEpoch(ProtocolError):
    """Section 5.2.1: a producer with an older epoch is fenced; the answer names the current one."""

    status, type, title, code = (
        403,
        "/errors/producer-epoch-fenced",
        "Producer Epoch Fenced",
        "PRODUCER_EPOCH_FENCED",
    )

    def __init__(self, current: int, received: int) -> None:
        detail = f"Producer epoch fenced: current {current}, received {received}"
        super().__init__(detail, [("Producer-Epoch", str(current))])


class NotFound(ProtocolError):
    status, type, title, code = 404, "/errors/not-found", "Stream Not Found", "NOT_FOUND"


class StreamNotFound(NotFound):
    def __init__(self, name: str) -> None:
        super().__init__(f"Stream not found: {name}")


class RouteNotFound(NotFound):
    title = "Not Found"

    def __init__(self) -> None:
        super().__init__("Nothing is served at this path")


class MethodNotAllowed(ProtocolError):
    status, type, title, code = 405, "/errors/method-not-allowed", "Method Not Allowed", "METHOD_NOT_ALLOWED"

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"Method {method} is not allowed here; allowed: {allowed}", [("Allow", allowed)])


class BodyTimeout(ProtocolError):
    """The body arrived too slowly."""

    status, type, title, code = 408, "/errors/request-timeout", "Request Timeout", "REQUEST_TIMEOUT"


class Conflict(ProtocolError):
    status, type, title, code = 409, "/errors/conflict", "Conflict", "CONFLICT"


class StreamExists(Conflict):
    type, title, code = "/errors/already-exists", "Stream Already Exists", "ALREADY_EXISTS"

    def __init__(self, difference: str) -> None:
        super().__init__(f"Stream already exists with different configuration: {difference}")


class ContentTypeMismatch(Conflict):
    type, title, code = "/errors/content-type-mismatch", "Content Type Mismatch", "CONTENT_TYPE_MISMATCH"

    def __init__(self, expected: str, received: str) -> None:
        super().__init__(f"Content type mismatch: expected {expected}, got {received}")


class StreamClosed(Conflict):
    """Section 5.2: the answer names the final offset, so that a client need not read the body."""

    type, title, code = "/errors/stream-closed", "Stream Closed", "STREAM_CLOSED"

    def __init__(self, final_offset: str) -> None:
        super().__init__(
            "Stream is closed", [("Stream-Next-Offset", final_offset), ("Stream-Closed", "true")]
        )


class SequenceConflict(Conflict):
    type, title, code = "/errors/sequence-conflict", "Sequence Conflict", "SEQUENCE_CONFLICT"


class StreamSeqRegression(SequenceConflict):
    def __init__(self, last: str, received: str, next_offset: str) -> None:
        super().__init__(
            f"Stream-Seq ordering violation: last={last}, received={received}",
            [("Stream-Next-Offset", next_offset)],
        )


class ExpectedOffsetMismatch(Conflict):
    """Stream-Expected-Offset is not the offset of the tail, which the answer names."""

    type, title, code = (
        "/errors/expected-offset-mismatch",
        "Expected Offset Mismatch",
        "EXPECTED_OFFSET_MISMATCH",
    )

    def __init__(self, next_offset: str) -> None:
        super().__init__(
            f"The stream does not end at the expected offset, but at {next_offset}",
            [("Stream-Next-Offset", next_offset)],
        )


class ProducerSeqGap(SequenceConflict):
    def __init__(self, expected: int, received: int) -> None:
        super().__init__(
            f"Producer sequence gap: expected {expected}, got {received}",
            [("Producer-Expected-Seq", str(expected)), ("Producer-Received-Seq", str(received))],
        )


class ForkFromDeleted(Conflict):
    type, title, code = "/errors/fork-from-tombstone", "Fork From Deleted Stream", "FORK_FROM_TOMBSTONE"

    def __init__(self, name: str) -> None:
        super().__init__(f"Cannot fork from deleted stream: {name}")


class PathBlocked(Conflict):
    type, title, code = "/errors/path-blocked", "Stream Path Blocked", "PATH_BLOCKED"

    def __init__(self, name: str) -> None:
        super().__init__(f"Stream path is reserved by a soft-deleted lineage: {name}")


class StreamGone(ProtocolError):
    """Section 4.2: a soft-deleted stream answers 410 until its last fork has gone."""

    status, type, title, code = 410, "/errors/gone", "Stream Gone", "GONE"

    def __init__(self, name: str) -> None:
        super().__init__(f"Stream is gone: {name}")


class OffsetGone(ProtocolError):
    """The offset is of an earlier stream of that name; the client has to begin again at ``-1`` (section 5.6)."""

    status, type, title, code = 410, "/errors/offset-gone", "Offset Gone", "OFFSET_GONE"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The offset belongs to an earlier stream, and {name} was created after it; read again from offset -1"
        )


class PreconditionFailed(ProtocolError):
    """If-Match or If-None-Match does not hold for the stream as it is (RFC 9110, section 13)."""

    status, type = 412, "/errors/precondition-failed"
    title, code = "Precondition Failed", "PRECONDITION_FAILED"

    def __init__(self, header: str, next_offset: str | None) -> None:
        detail = f"{header} does not hold: " + (
            "there is no such stream" if next_offset is None else f"the stream ends at {next_offset}"
        )
        super().__init__(detail, [] if next_offset is None else [("Stream-Next-Offset", next_offset)])


class TooLarge(ProtocolError):
    status, type, title, code = 413, "/errors/payload-too-large", "Payload Too Large", "PAYLOAD_TOO_LARGE"


class RequestBodyTooLarge(TooLarge):
    type, title, code = "/errors/request-body-too-large", "Request Body Too Large", "REQUEST_BODY_TOO_LARGE"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The request body is larger than the limit of {limit} bytes")


class QuotaReached(TooLarge):
    """The streams of a prefix hold as many bytes as they may together; nothing was changed."""

    type, title, code = "/errors/quota-reached", "Quota Reached", "QUOTA_REACHED"

    def __init__(self, prefix: str, limit: int) -> None:
        super().__init__(f"The streams below {prefix!r} may hold {limit} bytes together")


class LimitReached(ProtocolError):
    """A count of what is kept is at its limit, which ``setting`` names; nothing was changed."""

    status, type, title, code = 429, "/errors/limit-reached", "Limit Reached", "LIMIT_REACHED"

    def __init__(self, setting: str, limit: int) -> None:
        super().__init__(f"{setting} = {limit} is reached")


class UnsupportedCoding(ProtocolError):
    """The server does not undo this Content-Encoding; Accept-Encoding lists those that it does (RFC 9110, 12.5.3)."""

    status, type = 415, "/errors/unsupported-coding"
    title, code = "Unsupported Content Coding", "UNSUPPORTED_CODING"

    def __init__(self, received: str, supported: str) -> None:
        super().__init__(
            f"Content-Encoding {received!r} is not supported; supported: {supported}",
            [("Accept-Encoding", supported)],
        )


class TooManyRequests(ProtocolError):
    """A gate has counted too many (section 12.5); ``retry_after_s`` are whole seconds."""

    status, type, title, code = 429, "/errors/too-many-requests", "Too Many Requests", "TOO_MANY_REQUESTS"

    def __init__(self, detail: str, retry_after_s: int) -> None:
        super().__init__(detail, [("Retry-After", str(retry_after_s))])


class TooManyMessages(TooLarge):
    type, title, code = "/errors/too-many-messages", "Too Many Messages", "TOO_MANY_MESSAGES"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The request holds more JSON messages than the limit of {limit}")


class InternalError(ProtocolError):
    """What went wrong is logged with ``cause``; the client is told no more than that it did."""

    def __init__(self, cause: str) -> None:
        super().__init__("The server encountered an internal error.")
        self.cause = cause


class OutcomeUnknown(InternalError):
    """Storage failed while it was writing; whether anything was kept is known when it is opened the next time."""


class StreamDamaged(InternalError):
    """Stored bytes of this one stream fail their checksum; they are never served."""


class Unavailable(ProtocolError):
    """Storage is busy, closing or out of reach; nothing was changed and a retry may succeed."""

    status, type, title, code = 503, "/errors/unavailable", "Service Unavailable", "UNAVAILABLE"

    def __init__(self, cause: str = "") -> None:
        super().__init__("The server is temporarily unable to complete the request.", [("Retry-After", "1")])
        self.cause = cause


class StaleDecision(Unavailable):
    """The stream is no longer what it was when the request was made ready; asked again, it will be decided."""


class DocumentChanged(StaleDecision):
    """A document of the server is no longer at the revision that was to be replaced."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} has another revision by now")


class StorageFull(ProtocolError):
    """The disk is full; nothing was changed, and service resumes when there is room."""

    status, type = 507, "/errors/insufficient-storage"
    title, code = "Insufficient Storage", "INSUFFICIENT_STORAGE"

    def __init__(self, cause: str = "") -> None:
        super().__init__("The server does not have enough storage capacity to complete the request.")
        self.cause = cause
