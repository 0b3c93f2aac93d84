"""The paths of subscriptions (PROTOCOL.md, sections 6 and 7, and docs/subscriptions.md)."""

from __future__ import annotations

from typing import Final

from durable_streams.protocol.subscriptions.config import (
    ATTEMPTS_MAX,
    BATCH_MS_MAX,
    LEASE_TTL_MS_MAX,
    LEASE_TTL_MS_MIN,
)
from durable_streams.web.openapi.parts import (
    COUNT,
    FLAG,
    JSON,
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

_ID: Final = parameter(
    "path",
    "id",
    "The id of the subscription.",
    {"type": "string", "minLength": 1, "maxLength": 256, "pattern": "^[^/]+$"},
)
_COMMON: Final = "400 401 403 404 405 408 409 413 414 415 429 431 500 501 503 507"
_ENVELOPE: Final = "SubscriptionError"


def subscription_paths(base: str) -> Json:
    """The paths below ``{base}/__ds``."""
    root = f"{base}/__ds"
    return {
        **_lists(root),
        **_of_one(f"{root}/subscriptions/{{id}}"),
        **_wakes(f"{root}/subscriptions/{{id}}"),
        **_keys(root),
    }


def _lists(root: str) -> Json:
    page = [
        parameter("query", "after", "The `next` of the page before."),
        parameter("query", "limit", "The most entries.", {"type": "integer", "minimum": 1, "maximum": 1000}),
    ]
    text = "All subscriptions in pages, without their streams"
    found = {"200": json_response("A page.", _PAGE)}
    return {f"{root}/subscriptions": {"get": _operation("list_subscriptions", text, found, parameters=page)}}


def _of_one(one: str) -> Json:
    shown = json_response("The subscription.", ref("Subscription"))
    streams = object_of("streams", streams=array_of(TEXTUAL))
    path = parameter("path", "path", "A linked stream.", {"type": "string", "minLength": 1})
    return {
        one: {
            "parameters": [_ID],
            "get": _operation("get_subscription", "One subscription (6.3)", {"200": shown}),
            "put": _operation(
                "put_subscription",
                "Create a subscription, or confirm it (6.2)",
                {"200": shown, "201": shown},
                body=ref("SubscriptionRequest"),
            ),
            "delete": _operation("delete_subscription", "Delete it (6.4)", _DONE),
        },
        f"{one}/streams": {
            "parameters": [_ID],
            "post": _operation("add_streams", "Link streams", _DONE, body=streams),
        },
        f"{one}/streams/{{path}}": {
            "parameters": [_ID, path],
            "delete": _operation("remove_stream", "Unlink a stream", _DONE),
        },
    }


def _wakes(one: str) -> Json:
    claimed = {"200": json_response("A wake with its token.", _CLAIM)}
    taken = {"200": json_response("Taken.", _ACKED)}
    posts = {
        "claim": ("Claim pending work (7.3)", claimed, object_of("worker", worker=TEXTUAL)),
        "ack": ("Acknowledge (7.4)", taken, _ACK),
        "callback": ("Acknowledge a webhook (6.6)", taken, _ACK),
        "release": ("Give a wake back (7.5)", _DONE, _WAKE),
    }
    return {
        f"{one}/{action}": {"parameters": [_ID], "post": _operation(action, text, responses, body=body)}
        for action, (text, responses, body) in posts.items()
    }


def _keys(root: str) -> Json:
    public = {"application/jwk-set+json": object_of("*", keys={"type": "array"})}
    published = {status: json_response("The key.", _KEY) for status in ("200", "201")}
    return {
        f"{root}/jwks.json": {
            "get": _operation(
                "jwks", "The public keys of webhooks (6.5)", {"200": response("A JWK Set.", public)}
            )
        },
        f"{root}/keys": {"post": _operation("rotate_key", "Publish the next signing key", published)},
    }


def _operation(
    operation: str,
    summary: str,
    responses: Json,
    *,
    parameters: list[Json] | None = None,
    body: Json | None = None,
) -> Json:
    found: Json = {
        "operationId": operation,
        "tags": ["subscriptions"],
        "summary": summary,
        "parameters": parameters or [],
        "responses": {**responses, **problems(_COMMON, JSON, _ENVELOPE)},
    }
    if body is not None:
        found["requestBody"] = {"required": True, "content": {JSON: {"schema": body}}}
    return found


_DONE: Final = {"204": response("Done.")}
_WAKE: Final = object_of("*", wake_id=TEXTUAL, generation={"type": "integer"})
_ACK: Final = object_of(
    "wake_id generation",
    wake_id=TEXTUAL,
    generation={"type": "integer"},
    acks=array_of(object_of("*", stream=TEXTUAL, offset=TEXTUAL)),
    done=FLAG,
)
_ACKED: Final = object_of("*", ok={"const": True}, next_wake=FLAG)
_CLAIM: Final = object_of(
    "*",
    wake_id=TEXTUAL,
    generation=COUNT,
    token=TEXTUAL,
    streams=array_of({"type": "object"}),
    lease_ttl_ms=COUNT,
)
_KEY: Final = object_of("*", kid=TEXTUAL, signs_from=TIME)
_PAGE: Final = object_of("*", subscriptions=array_of(ref("SubscriptionSummary")), next=nullable("string"))
_TOLD: Final = {
    "id": TEXTUAL,
    "subscription_id": TEXTUAL,
    "type": {"enum": ["webhook", "pull-wake"]},
    "pattern": nullable("string"),
    "webhook": nullable("object"),
    "wake_stream": nullable("string"),
    "lease_ttl_ms": COUNT,
    "description": nullable("string"),
    "created_at": TIME,
    "status": {"enum": ["active", "failed"]},
    "paused": FLAG,
    "generation": COUNT,
    "lag": object_of("*", streams=COUNT, bytes=COUNT),
    "attempts": COUNT,
    "last_error": nullable("string"),
    "next_attempt_at": nullable("string"),
    "wake": nullable("object"),
}

SCHEMAS: Final[Json] = {
    "SubscriptionError": object_of(
        "error",
        error={**object_of("code message", code=TEXTUAL, message=TEXTUAL), "description": "Section 7.1."},
    ),
    "SubscriptionSummary": object_of("*", **_TOLD),
    "Subscription": object_of(
        "*", **_TOLD, streams=array_of(object_of("*", path=TEXTUAL, link_type=TEXTUAL, acked_offset=TEXTUAL))
    ),
    "SubscriptionRequest": object_of(
        "type",
        type={"enum": ["webhook", "pull-wake"]},
        pattern=nullable("string"),
        streams=nullable("array", items=TEXTUAL),
        webhook=nullable("object", properties={"url": {"type": "string", "format": "uri"}}),
        wake_stream=nullable("string"),
        lease_ttl_ms=nullable("integer", minimum=LEASE_TTL_MS_MIN, maximum=LEASE_TTL_MS_MAX),
        description=nullable("string"),
        max_attempts=nullable("integer", minimum=1, maximum=ATTEMPTS_MAX),
        dead_letter_stream=nullable("string"),
        batch_ms=nullable("integer", minimum=0, maximum=BATCH_MS_MAX),
        start=nullable("string"),
        on_close=nullable("boolean"),
        paused=nullable("boolean"),
    ),
}
