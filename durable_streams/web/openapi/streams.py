"""The paths of streams (PROTOCOL.md, sections 4 and 5)."""

from __future__ import annotations

from typing import Final

from durable_streams.web.openapi.parts import (
    ANY_BYTES,
    TEXT,
    Json,
    header,
    parameter,
    problems,
    response,
)

_INTEGER: Final[Json] = {"type": "integer", "minimum": 0, "maximum": 2**53 - 1}
_OFFSET: Final[Json] = {"type": "string", "pattern": r"^[0-9]{16}_[0-9]{16}$"}
_TRUE: Final[Json] = {"type": "string", "enum": ["true"]}
_KEPT: Final[Json] = {"type": "string", "minLength": 1, "maxLength": 256, "pattern": r"^[!-~]+$"}

_NAME: Final = parameter(
    "path",
    "name",
    "The name of the stream: the rest of the path, percent-decoded once. It may have segments; `%2F` is a slash.",
    {"type": "string", "minLength": 1, "examples": ["shop/orders"]},
)
_NEXT: Final = {"Stream-Next-Offset": header("Where the stream, or this page, ends.", _OFFSET, required=True)}
_CLOSED: Final = {"Stream-Closed": header("`true`: nothing will follow.", _TRUE)}
_WRITE_CONDITIONS: Final = [
    parameter(
        "header", "If-Match", "Write only if one of the tags is current; `*`: only if there is a stream."
    ),
    parameter(
        "header",
        "If-None-Match",
        "Write only if none of the tags is current; `*`: only if there is no stream.",
    ),
]
_FORK: Final = [
    parameter("header", "Stream-Forked-From", "The source of a fork: its path or its name (section 4.2)."),
    parameter("header", "Stream-Fork-Offset", "An offset of the source; without it, its tail.", _OFFSET),
    parameter("header", "Stream-Fork-Sub-Offset", "Bytes, or JSON messages, past that offset.", _INTEGER),
]
_PRODUCER: Final = [
    parameter(
        "header", "Producer-Id", "With epoch and sequence: a repeated append is recognised (5.2.1).", _KEPT
    ),
    parameter("header", "Producer-Epoch", "Grows when the producer starts anew.", _INTEGER),
    parameter("header", "Producer-Seq", "Grows by one with each append of an epoch.", _INTEGER),
]
_BODY: Final[Json] = {
    "description": "The data, in the content type of the stream. For JSON one value, or an array of messages.",
    "content": {
        "application/octet-stream": {"schema": ANY_BYTES},
        "text/plain": {"schema": {"type": "string"}},
        "application/json": {"schema": {}},
    },
}
_ALWAYS: Final = "400 401 403 404 405 414 431 500 503"


def stream_paths(base: str) -> Json:
    """The paths below ``base``."""
    return {
        f"{base}/{{name}}": {
            "parameters": [_NAME],
            "put": _put(),
            "post": _post(),
            "get": _get(),
            "head": _head(),
            "delete": _delete(),
        }
    }


def _operation(operation: str, summary: str, parameters: list[Json], responses: Json, **more: Json) -> Json:
    return {
        "operationId": operation,
        "tags": ["streams"],
        "summary": summary,
        "parameters": parameters,
        **more,
        "responses": responses,
    }


def _put() -> Json:
    headers = {**_NEXT, **_CLOSED}
    created = {**headers, "Location": header("The URL of the stream.", required=True)}
    parameters = [
        parameter(
            "header", "Stream-TTL", "Seconds without a read or a write after which the stream goes.", _INTEGER
        ),
        parameter(
            "header",
            "Stream-Expires-At",
            "The instant at which it goes; not together with Stream-TTL.",
            {"type": "string", "format": "date-time"},
        ),
        parameter("header", "Stream-Closed", "`true`: closed from the beginning.", _TRUE),
        *_FORK,
        *_WRITE_CONDITIONS,
    ]
    responses = {
        "200": response("There is such a stream already, with the same configuration.", headers=headers),
        "201": response("It was created.", headers=created),
        **problems(f"{_ALWAYS} 408 409 410 412 413 415 429 507"),
    }
    return _operation(
        "create", "Create a stream, or fork one (5.1, 4.2)", parameters, responses, requestBody=_BODY
    )


def _post() -> Json:
    producer = {
        "Producer-Epoch": header("Of the producer.", _INTEGER),
        "Producer-Seq": header("The newest accepted one.", _INTEGER),
    }
    headers = {**_NEXT, **_CLOSED, **producer}
    parameters = [
        parameter(
            "header", "Stream-Closed", "`true`: nothing may follow; without a body it only closes.", _TRUE
        ),
        parameter("header", "Stream-Seq", "Must be greater, byte by byte, than the last one.", _KEPT),
        parameter("header", "Stream-Expected-Offset", "Append only if the stream ends there.", _OFFSET),
        *_PRODUCER,
        *_WRITE_CONDITIONS,
    ]
    responses = {
        "200": response("The data of the producer is new.", headers=headers),
        "204": response("Appended, closed, or known already.", headers=headers),
        **problems(f"{_ALWAYS} 408 409 410 412 413 415 429 507"),
    }
    return _operation(
        "append", "Append to a stream, or close it (5.2, 5.3)", parameters, responses, requestBody=_BODY
    )


def _get() -> Json:
    cursor = {"Stream-Cursor": header("To be sent with the next live read.")}
    up_to_date = {"Stream-Up-To-Date": header("`true`: nothing follows now.", _TRUE)}
    page = {**_NEXT, **_CLOSED, **up_to_date, **cursor, "ETag": header("Of this page.")}
    events = {"Stream-SSE-Data-Encoding": header("`base64` where the stream is no text.")}
    parameters = [
        parameter(
            "query",
            "offset",
            "Where to begin: `-1` is the start, `now` the end, else what Stream-Next-Offset has told.",
            {"type": "string", "pattern": r"^(-1|now|[0-9]{16}_[0-9]{16})$"},
        ),
        parameter(
            "query",
            "live",
            "`long-poll` waits for data, `sse` answers with events; both need an offset.",
            {"type": "string", "enum": ["long-poll", "sse"]},
        ),
        parameter("query", "cursor", "What Stream-Cursor has told."),
        parameter("header", "If-None-Match", "The tag of a copy that the client has."),
    ]
    data = response(
        "The data after the offset in the content type of the stream, for JSON an array of messages; or events.",
        {"*/*": ANY_BYTES},
        {
            "Stream-Next-Offset": header("Where this page ends; events carry it themselves.", _OFFSET),
            **{name: found for name, found in page.items() if name != "Stream-Next-Offset"},
            **events,
        },
    )
    responses = {
        "200": data,
        "204": response(
            "Nothing came while a long-poll waited.", headers={**_NEXT, **_CLOSED, **up_to_date, **cursor}
        ),
        "304": response("The client's copy is current.", headers=page),
        **problems(f"{_ALWAYS} 410"),
    }
    return _operation("read", "Read: catch-up, long-poll or events (5.6 to 5.8)", parameters, responses)


def _head() -> Json:
    headers = {
        **_NEXT,
        **_CLOSED,
        "Stream-TTL": header("Its window in seconds.", _INTEGER),
        "Stream-Expires-At": header("The instant at which it goes."),
    }
    return _operation(
        "head",
        "What a stream is (5.5)",
        [],
        {"200": response("It is there.", headers=headers), **problems(f"{_ALWAYS} 410")},
    )


def _delete() -> Json:
    return _operation(
        "delete",
        "Delete a stream (5.4)",
        _WRITE_CONDITIONS,
        {"204": response("It has gone."), **problems(f"{_ALWAYS} 410 412 429 507")},
    )


def page_paths() -> Json:
    """Probes, the page at `/` and this document."""
    plain = {TEXT: {"type": "string"}}
    return {
        "/healthz": {
            "get": _page("health", "Whether the process lives", {"200": response("It does.", plain)})
        },
        "/readyz": {
            "get": _page(
                "readiness",
                "Whether requests can be answered",
                {"200": response("They can.", plain), "503": response("Not now.", plain)},
            )
        },
    }


def document_path() -> Json:
    found = response("This document.", {"application/json": {"type": "object"}})
    return {"/openapi.json": {"get": _page("openapi", "What this server offers", {"200": found})}}


def metrics_path() -> Json:
    media = {
        "text/plain": {"type": "string"},
        "application/openmetrics-text": {"type": "string"},
    }
    return {
        "/metrics": {
            "get": _page(
                "metrics",
                "Numbers for Prometheus",
                {"200": response("OpenMetrics, or the text format.", media), **problems("401 403 500")},
            )
        }
    }


def _page(operation: str, summary: str, responses: Json) -> Json:
    return {
        "operationId": operation,
        "tags": ["server"],
        "summary": summary,
        "responses": {**responses, **problems("405")},
    }
