"""environ -> what an operator asks for. A query that is not understood is refused, so that no deletion is misread."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import parse_qsl

from durable_streams.protocol.errors import BadRequest
from durable_streams.protocol.names import check_name
from durable_streams.web.parsing import decode_name
from durable_streams.web.response import Environ

LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 1000
NUMBER_DIGITS_MAX: Final = 18

Query = Mapping[str, str]


def parse_query(environ: Environ, known: Collection[str]) -> Query:
    """The parameters by their names; raises BadRequest for an unknown or repeated one, and unless all is UTF-8."""
    try:
        pairs = parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise BadRequest("the query is not UTF-8") from None
    except ValueError as exc:
        raise BadRequest(f"the query cannot be understood: {exc}") from None
    query = dict(pairs)
    if len(query) < len(pairs):
        raise BadRequest("a query parameter stands twice")
    unknown = next((name for name in query if name not in known), None)
    if unknown is not None:
        raise BadRequest(
            f"unknown query parameter {unknown!r}; known are {', '.join(sorted(known)) or 'none'}"
        )
    return query


def parse_page(query: Query) -> tuple[str, int]:
    """``after`` and ``limit``; raises BadRequest."""
    limit = parse_number(query, "limit")
    if limit is None:
        limit = LIMIT_DEFAULT
    if not 1 <= limit <= LIMIT_MAX:
        raise BadRequest(f"limit must be a number from 1 to {LIMIT_MAX}")
    return query.get("after", ""), limit


def parse_number(query: Query, name: str) -> int | None:
    """A whole number, or None where the parameter is absent; raises BadRequest."""
    text = query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= NUMBER_DIGITS_MAX):
        raise BadRequest(f"{name} must be a whole number, and it is {text!r}")
    return int(text)


def parse_name(environ: Environ, folder: str, bytes_max: int, segments_max: int) -> str:
    """The stream that the path names behind ``folder``; raises InvalidStreamName, or RouteNotFound for internal ones.

    Flask has decoded the path leniently; here are the bytes that were sent.
    """
    path: str = environ["PATH_INFO"]
    return check_name(decode_name(path[len(folder) :]), bytes_max, segments_max)
