"""environ -> protocol request. Only unpacks: the protocol floor decides what is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from durable_streams.protocol.caching import Precondition
from durable_streams.protocol.content import HEADER_SPACE, check_content_type
from durable_streams.protocol.errors import (
    BadRequest,
    InvalidHeader,
    InvalidOffset,
    InvalidStreamName,
    ProtocolError,
)
from durable_streams.protocol.headers import (
    check_length,
    is_true,
    parse_boolean,
    parse_expected_offset,
    parse_expiry,
    parse_integer,
    parse_producer,
)
from durable_streams.protocol.offsets import Offset, parse_offset, parse_read_offset
from durable_streams.protocol.requests import Append, Create, ForkSource
from durable_streams.web.response import Environ

LONG_POLL: Final = "long-poll"
SSE: Final = "sse"
QUERIES_REMEMBERED: Final = 512
"""Readers of one stream ask for the same places; a refused query is not remembered."""
CONTENT_TYPES_REMEMBERED: Final = 512
_APPEND_HEADERS: Final = frozenset(
    {
        "HTTP_IF_MATCH",
        "HTTP_IF_NONE_MATCH",
        "HTTP_PRODUCER_EPOCH",
        "HTTP_PRODUCER_ID",
        "HTTP_PRODUCER_SEQ",
        "HTTP_STREAM_CLOSED",
        "HTTP_STREAM_EXPECTED_OFFSET",
        "HTTP_STREAM_SEQ",
    }
)
_NO_PRODUCER: Final = (None, None, None)
_READ_PARAMETERS: Final = ("offset", "live", "cursor")


@dataclass(frozen=True, slots=True)
class Read:
    """GET (sections 5.6 to 5.8). ``offset`` is None for ``offset=now``."""

    offset: Offset | None
    live: str | None
    cursor: str | None


def readable(wsgi_text: str) -> str:
    """WSGI passes bytes as Latin-1 (PEP 3333); the UTF-8 text that they are, with U+FFFD for what is none."""
    return wsgi_text.encode("latin-1", "replace").decode("utf-8", "replace")


def decode_name(raw: str) -> str:
    """A stream name from WSGI's Latin-1 text of the decoded path; raises InvalidStreamName unless it is UTF-8."""
    if raw.isascii():
        return raw
    try:
        return raw.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidStreamName("stream name is not UTF-8") from None


def parse_fork_source(environ: Environ, base_paths: Sequence[str]) -> str | None:
    """The stream that Stream-Forked-From names (section 4.2): by its path, below one of ``base_paths``, or by its name.

    Where one base is below another, the longer one has to come first.
    """
    source = environ.get("HTTP_STREAM_FORKED_FROM")
    if source is None:
        return None
    script = environ.get("SCRIPT_NAME", "")
    return _source_name(source, *(f"{start}{base}/" for base in base_paths for start in ("", script)))


def encodes_base(environ: Environ, base_path: str) -> bool:
    """Whether a slash of the base path was sent as ``%2F``, which makes it another path (RFC 3986, section 2.2).

    WSGI has decoded the path; only the request target, which not every server passes on, tells.
    """
    target: str = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    if "%2" not in target:
        return False
    path = target.partition("?")[0]
    if not path.startswith("/"):
        path = path.partition("://")[2].partition("/")[2]
    segments = (environ.get("SCRIPT_NAME", "") + base_path).count("/") + path.startswith("/")
    return "%2f" in "/".join(path.split("/", segments)[:segments]).lower()


def parse_create(environ: Environ, name: str, body: bytes, source: str | None) -> Create:
    """``source``: what ``parse_fork_source`` has found."""
    return Create(
        name,
        _content_type(environ),
        parse_expiry(environ.get("HTTP_STREAM_TTL"), environ.get("HTTP_STREAM_EXPIRES_AT")),
        is_true(environ.get("HTTP_STREAM_CLOSED")),
        body,
        _fork(environ, source),
        precondition=parse_precondition(environ),
        message_offsets=parse_boolean("Stream-Message-Offsets", environ.get("HTTP_STREAM_MESSAGE_OFFSETS")),
    )


def parse_append(environ: Environ, name: str, body: bytes) -> Append:
    # The content type of an empty body is ignored (section 5.2).
    content_type = _content_type(environ) if body else None
    if environ.keys().isdisjoint(_APPEND_HEADERS):
        # One look in place of nine: most appends have none of them.
        return Append(name, content_type, body)
    closed = environ.get("HTTP_STREAM_CLOSED")
    expected = environ.get("HTTP_STREAM_EXPECTED_OFFSET")
    stream_seq = environ.get("HTTP_STREAM_SEQ")
    producer = (
        environ.get("HTTP_PRODUCER_ID"),
        environ.get("HTTP_PRODUCER_EPOCH"),
        environ.get("HTTP_PRODUCER_SEQ"),
    )
    return Append(
        name,
        content_type,
        body,
        closed is not None and is_true(closed),
        None if stream_seq is None else check_length("Stream-Seq", stream_seq),
        None if producer == _NO_PRODUCER else parse_producer(*producer),
        None if expected is None else parse_expected_offset(expected),
        parse_precondition(environ),
    )


def parse_precondition(environ: Environ) -> Precondition | None:
    """What the client wants the stream to be, for a request that writes."""
    if_match, if_none_match = environ.get("HTTP_IF_MATCH"), environ.get("HTTP_IF_NONE_MATCH")
    if if_match is None and if_none_match is None:
        return None
    return Precondition(if_match, if_none_match)


@lru_cache(QUERIES_REMEMBERED)
def parse_read(query_string: str, last_event_id: str | None) -> Read:
    """What a GET asks for; raises BadRequest or InvalidOffset."""
    query = _read_parameters(query_string)
    offset, live, cursor = query.get("offset"), query.get("live"), query.get("cursor")
    if live is not None and live not in (LONG_POLL, SSE):
        raise BadRequest(f"unsupported live mode: {live}")
    if live is not None and offset is None:
        raise InvalidHeader("offset", f"offset query parameter is required for live={live} mode")
    if live == SSE and last_event_id:
        offset = last_event_id
    return Read(parse_read_offset(offset), live, cursor)


def _content_type(environ: Environ) -> str | None:
    value: str | None = environ.get("CONTENT_TYPE")
    return None if value is None else _checked_content_type(value)


@lru_cache(CONTENT_TYPES_REMEMBERED)
def _checked_content_type(value: str) -> str:
    return check_content_type(check_length("Content-Type", value))


def _fork(environ: Environ, source: str | None) -> ForkSource | None:
    offset = environ.get("HTTP_STREAM_FORK_OFFSET")
    sub_offset = environ.get("HTTP_STREAM_FORK_SUB_OFFSET")
    if source is None:
        if offset is not None or sub_offset is not None:
            raise BadRequest("Stream-Fork-Offset and Stream-Fork-Sub-Offset require Stream-Forked-From")
        return None
    return ForkSource(
        source,
        None if offset is None else parse_offset(offset.strip(HEADER_SPACE)),
        0 if sub_offset is None else parse_integer("Stream-Fork-Sub-Offset", sub_offset),
    )


def _source_name(header: str, *prefixes: str) -> str:
    """A URL path that begins with one of ``prefixes``, or a bare stream name; percent-decoded once."""
    path = header.strip(HEADER_SPACE)
    prefix = next((prefix for prefix in prefixes if path.startswith(prefix)), "")
    path = path[len(prefix) :]
    try:
        name = unquote_to_bytes(path.encode("latin-1")).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidHeader("Stream-Forked-From", "it is not UTF-8") from None
    if not name.strip("/"):
        raise InvalidHeader("Stream-Forked-From", "it names no stream")
    return name.lstrip("/")


def _read_parameters(query_string: str) -> dict[str, str]:
    """The known parameters of a read. A repeated one is refused, an unknown one ignored."""
    found: dict[str, str] = {}
    if not query_string:
        return found
    is_encoded = "%" in query_string or "+" in query_string
    for part in query_string.split("&"):
        name, _, value = part.partition("=")
        if is_encoded:
            name, value = _unquote(name), _unquote(value)
        if name not in _READ_PARAMETERS:
            continue
        if name in found:
            raise _repeated(name)
        found[name] = value
    return found


def _repeated(name: str) -> ProtocolError:
    text = f"the query parameter {name} is given more than once"
    return InvalidOffset(f"Invalid offset format: {text}") if name == "offset" else BadRequest(text)


def _unquote(text: str) -> str:
    return unquote_to_bytes(text.replace("+", " ").encode("latin-1")).decode("utf-8", "replace")
