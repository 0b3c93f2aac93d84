"""The paths of the admin API (docs/admin.md), and what they answer."""

from __future__ import annotations

from typing import Final

from durable_streams.web.openapi.parts import (
    COUNT,
    FLAG,
    JSON,
    NUMBER,
    TEXTUAL,
    TIME,
    Json,
    array_of,
    json_response,
    nullable,
    object_of,
    parameter,
    problems,
    ref,
    response,
)

_NAME: Final = parameter(
    "path", "name", "The name of a stream; `%2F` is a slash.", {"type": "string", "minLength": 1}
)
_AFTER: Final = parameter("query", "after", "The `next` of the page before.")
_LIMIT: Final = parameter(
    "query", "limit", "The most entries.", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}
)
_COMMON: Final = "400 401 403 405 414 431 500 503"
_NUMBER: Final[Json] = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
_NEXT: Final = nullable("string", description="The `after` of the next page; null at the end.")


def admin_paths() -> Json:
    return {**_of_the_server(), **_of_all_streams(), **_of_one_stream(), **_of_its_parts()}


def _of_the_server() -> Json:
    return {
        "/admin/server": {"get": _operation("admin_server", "What the server does now", [], ref("Server"))}
    }


def _of_all_streams() -> Json:
    listing = [parameter("query", "prefix", "How their names begin."), _AFTER, _LIMIT]
    deletion = [
        parameter(
            "query", "prefix", "How their names begin.", {"type": "string", "minLength": 1}, required=True
        ),
        parameter("query", "confirm", "How many streams there are.", _NUMBER),
    ]
    text = "Delete streams by prefix; without `confirm` only count them"
    return {
        "/admin/streams": {
            "get": _operation("admin_list", "Streams by prefix, in pages", listing, ref("StreamPage")),
            "delete": _operation("admin_delete_all", text, deletion, ref("Deletion"), more="409"),
        }
    }


def _of_one_stream() -> Json:
    counting = [parameter("query", "messages", "`all`: count them, however many.", {"enum": ["all"]})]
    closing = {**object_of("closed", closed={"const": True}), "additionalProperties": False}
    closed = _operation(
        "admin_close", "Close a stream", [], ref("StreamDetails"), more="404 408 409 410 413 415 429 507"
    )
    deleted = _operation("admin_delete", "Delete a stream", [], {}, more="404 410 429 507")
    deleted["responses"]["204"] = response("It has gone.")
    del deleted["responses"]["200"]
    return {
        "/admin/streams/{name}": {
            "parameters": [_NAME],
            "get": _operation("admin_stream", "One stream", counting, ref("StreamDetails"), more="404"),
            "patch": {**closed, "requestBody": {"required": True, "content": {JSON: {"schema": closing}}}},
            "delete": deleted,
        }
    }


def _of_its_parts() -> Json:
    page = [_AFTER, _LIMIT]
    position = parameter("query", "position", "A byte of the stream.", _NUMBER, required=True)
    offset = "The offset of the first whole message or character at or after a byte"
    parts = {
        "producers": _operation(
            "admin_producers", "Its idempotent producers, in pages", page, ref("ProducerPage"), more="404"
        ),
        "forks": _operation(
            "admin_forks", "The streams forked from it, in pages", page, ref("ForkPage"), more="404"
        ),
        "offsets": _operation("admin_offset", offset, [position], ref("Place"), more="404"),
    }
    return {f"/admin/{part}/{{name}}": {"parameters": [_NAME], "get": found} for part, found in parts.items()}


def _operation(operation: str, summary: str, parameters: list[Json], schema: Json, *, more: str = "") -> Json:
    return {
        "operationId": operation,
        "tags": ["admin"],
        "summary": summary,
        "parameters": parameters,
        "responses": {"200": json_response("What was asked for.", schema), **problems(f"{_COMMON} {more}")},
    }


_LIMITED: Final = object_of("*", now=nullable("integer", minimum=0), limit=COUNT)
_STREAM: Final = {
    "name": TEXTUAL,
    "content_type": TEXTUAL,
    "bytes": {**COUNT, "description": "Stored bytes, those of its source included."},
    "own_bytes": {**COUNT, "description": "Stored bytes of its own."},
    "messages": nullable("integer", minimum=0, description="Of a JSON stream, where they were counted."),
    "offset": {"type": "string", "description": "Its end."},
    "created_at": TIME,
    "touched_at": {**TIME, "description": "The last write, or the last read that was recorded."},
    "ttl_secs": nullable("integer", minimum=0),
    "expires_at": nullable("string"),
    "closed": FLAG,
    "deleted": {**FLAG, "description": "Kept for its forks alone."},
    "forks": COUNT,
    "producers": COUNT,
    "live_readers": {**COUNT, "description": "Of the worker that answers."},
    "forked_from": {"anyOf": [{"type": "null"}, object_of("*", name=TEXTUAL, position=COUNT)]},
}
_CLOSED_BY: Final = object_of("*", producer=TEXTUAL, epoch=COUNT, seq=COUNT)

SCHEMAS: Final[Json] = {
    "Stream": object_of("*", **_STREAM),
    "DamagedStream": object_of("*", name=TEXTUAL, damaged={"type": "string", "description": "The reason."}),
    "StreamPage": object_of(
        "*", streams=array_of({"anyOf": [ref("Stream"), ref("DamagedStream")]}), next=_NEXT
    ),
    "StreamDetails": object_of(
        "*",
        **_STREAM,
        closed_by={"anyOf": [{"type": "null"}, _CLOSED_BY]},
        stream_seq=nullable("string"),
    ),
    "ProducerPage": object_of(
        "*", producers=array_of(object_of("*", id=TEXTUAL, epoch=COUNT, seq=COUNT, seen_at=TIME)), next=_NEXT
    ),
    "ForkPage": object_of("*", forks=array_of({"anyOf": [ref("Stream"), ref("DamagedStream")]}), next=_NEXT),
    "Place": object_of("*", position=COUNT, offset=TEXTUAL),
    "Deletion": object_of(
        "prefix dry_run matched bytes more",
        prefix=TEXTUAL,
        dry_run=FLAG,
        matched=COUNT,
        bytes=COUNT,
        more={**FLAG, "description": "There may be more than one deletion takes."},
        deleted=COUNT,
        failed={"type": "object", "additionalProperties": TEXTUAL},
    ),
    "Server": object_of(
        "*",
        version=TEXTUAL,
        mode=TEXTUAL,
        worker={**COUNT, "description": "The process that answers."},
        started_at=TIME,
        uptime_secs=NUMBER,
        ready=FLAG,
        storage_failed=FLAG,
        storage_full=FLAG,
        connections=_LIMITED,
        live_readers={"type": "object", "additionalProperties": COUNT},
        queues={"type": "object", "additionalProperties": _LIMITED},
        storage={"type": "object", "additionalProperties": NUMBER},
        subscriptions=nullable("integer", minimum=0),
        committed=object_of(
            "*",
            changes=COUNT,
            bytes=COUNT,
            commits=COUNT,
            seconds=NUMBER,
            failures=COUNT,
            created=COUNT,
            deleted=COUNT,
            expired=COUNT,
        ),
        settings={"type": "object", "description": "By dotted key; secrets are masked."},
    ),
}
