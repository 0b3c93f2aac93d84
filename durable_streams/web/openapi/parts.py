"""What every part of the document is put together from: responses, headers and parameters in few words."""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]

PROBLEM: Final = "application/problem+json"
JSON: Final = "application/json"
TEXT: Final = "text/plain"


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def header(text: str, schema: Json | None = None, *, required: bool = False) -> Json:
    found: Json = {"description": text, "schema": schema or {"type": "string"}}
    return found | {"required": True} if required else found


def response(text: str, content: Json | None = None, headers: Json | None = None) -> Json:
    """``content``: schemas by media type."""
    found: Json = {"description": text}
    if headers:
        found["headers"] = headers
    if content:
        found["content"] = {media: {"schema": schema} for media, schema in content.items()}
    return found


def json_response(text: str, schema: Json) -> Json:
    return response(text, {JSON: schema})


def parameter(
    place: str, name: str, text: str, schema: Json | None = None, *, required: bool = False
) -> Json:
    return {
        "in": place,
        "name": name,
        "description": text,
        "required": required or place == "path",
        "schema": schema or {"type": "string"},
    }


def object_of(required: str, **properties: Json) -> Json:
    """A schema; ``required``: names with blanks between them, or ``*`` for all."""
    names = list(properties) if required == "*" else required.split()
    found: Json = {"type": "object", "properties": properties}
    return found | {"required": names} if names else found


def array_of(items: Json) -> Json:
    return {"type": "array", "items": items}


def nullable(kind: str, **more: Any) -> Json:
    return {"type": [kind, "null"], **more}


TEXTUAL: Final[Json] = {"type": "string"}
COUNT: Final[Json] = {"type": "integer", "minimum": 0}
NUMBER: Final[Json] = {"type": "number"}
FLAG: Final[Json] = {"type": "boolean"}
TIME: Final[Json] = {"type": "string", "format": "date-time"}
ANY_BYTES: Final[Json] = {}


def problems(statuses: str, media: str = PROBLEM, schema: str = "Problem") -> Json:
    """Responses for error statuses, given with blanks between them."""
    return {
        status: response(_PROBLEMS[status], {media: ref(schema)}, _PROBLEM_HEADERS.get(status))
        for status in statuses.split()
    }


_PROBLEM_HEADERS: Final[dict[str, Json]] = {
    "401": {"WWW-Authenticate": header("How to sign in.")},
    "405": {"Allow": header("The methods that there are.", required=True)},
    "503": {"Retry-After": header("Seconds after which a retry may succeed.")},
}

_PROBLEMS: Final = {
    "400": "The request cannot be understood; `detail` names what is wrong.",
    "401": "There is no token, or it is not valid.",
    "403": "The token lacks the scope; or a page of another origin writes; or, without access control, the host is not "
    "this machine.",
    "404": "There is no such thing.",
    "405": "The method is not offered here.",
    "408": "The body did not arrive in time.",
    "409": "It contradicts what is there.",
    "410": "The stream is deleted and kept for its forks, or the offset is of an earlier stream of this name.",
    "412": "A precondition does not hold.",
    "413": "A limit on size.",
    "414": "The request line is too long.",
    "415": "The content type, or the coding, is not understood.",
    "429": "A limit on number; or too many requests.",
    "431": "The request head is too long.",
    "500": "An internal error; its cause is in the log.",
    "501": "What this needs is not installed.",
    "503": "Busy, or closing. Nothing was changed, and a retry may succeed.",
    "507": "The disk is full.",
}
