"""Subscription ids, and stream paths as subscription bodies name them (section 6.1)."""

from __future__ import annotations

from typing import Final
from unicodedata import category

from durable_streams.protocol.errors import InvalidStreamName, RouteNotFound
from durable_streams.protocol.names import check_name
from durable_streams.protocol.subscriptions.errors import InvalidRequest

ID_BYTES_MAX: Final = 256
WORKER_BYTES_MAX: Final = 256


def check_id(text: str) -> str:
    """A subscription id, percent-decoded once; raises InvalidRequest.

    Clients use `runner:7` and the like, so everything is allowed but what would make it another path.
    """
    return _check_text("subscription id", text, ID_BYTES_MAX)


def check_worker(text: object) -> str:
    """The name of the worker that claims; raises InvalidRequest."""
    if not isinstance(text, str):
        raise InvalidRequest("worker must be a string")
    return _check_text("worker", text, WORKER_BYTES_MAX, slashes=True)


def _check_text(what: str, text: str, bytes_max: int, *, slashes: bool = False) -> str:
    if not text or text in (".", ".."):
        raise InvalidRequest(f"{what} must not be empty, '.' or '..'")
    # Cs: half of a surrogate pair, which JSON can name and UTF-8 cannot.
    if any(category(character) in ("Cc", "Cs") for character in text) or ("/" in text and not slashes):
        raise InvalidRequest(f"{what} must not contain '/' or control characters")
    if len(text.encode("utf-8")) > bytes_max:
        raise InvalidRequest(f"{what} is longer than {bytes_max} bytes")
    return text


class PathRules:
    """The limits of a stream name, as the streams themselves have them."""

    def __init__(self, bytes_max: int, segments_max: int) -> None:
        self.bytes_max = bytes_max
        self.segments_max = segments_max

    def check(self, path: object, what: str) -> str:
        """A path relative to the stream root; raises InvalidRequest. Slashes around it are dropped."""
        if not isinstance(path, str):
            raise InvalidRequest(f"{what} must be a string")
        trimmed = path.strip("/")
        try:
            trimmed.encode("utf-8")
            return check_name(trimmed, self.bytes_max, self.segments_max)
        except UnicodeEncodeError:
            raise InvalidRequest(f"{what} is not valid Unicode") from None
        except RouteNotFound:
            raise InvalidRequest(f"{what} lies below the reserved segment '__ds'") from None
        except InvalidStreamName as exc:
            raise InvalidRequest(f"{what}: {exc.detail}") from None
