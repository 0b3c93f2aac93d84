"""environ -> what is asked of a subscription. Only unpacks: the protocol floor decides what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from durable_streams.protocol.content import is_json
from durable_streams.protocol.subscriptions.errors import InvalidRequest, UnsupportedMediaType
from durable_streams.protocol.subscriptions.ids import PathRules
from durable_streams.protocol.subscriptions.requests import Ack, Grant, Release
from durable_streams.web.bodies import BodyReader
from durable_streams.web.response import Environ

LIST_LIMIT_DEFAULT: Final = 100
LIST_LIMIT_MAX: Final = 1000
_decode: Final = msgspec.json.Decoder().decode


def decode_segment(raw: str) -> str:
    """A part of the path from WSGI's Latin-1 text; raises InvalidRequest unless it is UTF-8."""
    try:
        return raw if raw.isascii() else raw.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest("the path is not UTF-8") from None


def read_object(environ: Environ, bodies: BodyReader) -> Mapping[str, Any]:
    """The JSON object of the body; raises InvalidRequest, UnsupportedMediaType, and what reading a body raises.

    Another content type is refused, because a browser sends such a request for any page without asking first.
    """
    content_type = environ.get("CONTENT_TYPE")
    if content_type and not is_json(content_type):
        raise UnsupportedMediaType(content_type)
    body = bodies.read(environ)
    try:
        document = _decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as exc:
        raise InvalidRequest(f"the body is not JSON: {exc}") from None
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object")
    return document


def parse_ack(document: Mapping[str, Any], grant: Grant, paths: PathRules, *, callback: bool) -> Ack:
    """The body of an ack or a callback; offsets are judged later."""
    wake_id, generation = _wake(document)
    done = document.get("done")
    if done is not None and not isinstance(done, bool):
        raise InvalidRequest("done must be true or false")
    items = document.get("acks")
    if items is not None and not isinstance(items, list):
        raise InvalidRequest("acks must be an array")
    acks = tuple(_ack_item(item, paths) for item in items or ())
    return Ack(grant, wake_id, generation, acks, done is True, callback)


def parse_release(document: Mapping[str, Any], grant: Grant) -> Release:
    return Release(grant, *_wake(document))


def parse_page(environ: Environ) -> tuple[str, int]:
    """``after`` and ``limit`` of a list; anything else in the query is ignored."""
    query = dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
    limit = query.get("limit")
    if limit is None:
        return query.get("after", ""), LIST_LIMIT_DEFAULT
    if not (limit.isascii() and limit.isdigit() and len(limit) < 6 and 1 <= int(limit) <= LIST_LIMIT_MAX):
        raise InvalidRequest(f"limit must be a number from 1 to {LIST_LIMIT_MAX}")
    return query.get("after", ""), int(limit)


def _wake(document: Mapping[str, Any]) -> tuple[str, int]:
    wake_id, generation = document.get("wake_id"), document.get("generation")
    if not isinstance(wake_id, str):
        raise InvalidRequest("wake_id must be a string")
    if type(generation) is not int:
        raise InvalidRequest("generation must be an integer")
    return wake_id, generation


def _ack_item(item: object, paths: PathRules) -> tuple[str, str]:
    if not isinstance(item, dict):
        raise InvalidRequest("each of acks must be an object with stream and offset")
    # Some clients say `path`, as the wake does.
    stream = item.get("stream", item.get("path"))
    offset = item.get("offset")
    if not isinstance(offset, str):
        raise InvalidRequest("acks: offset must be a string")
    return paths.check(stream, "acks: stream"), offset
