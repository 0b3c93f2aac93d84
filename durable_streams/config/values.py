"""Rules for single values that go beyond type and range.

Each function takes a value and gives it back, normalised where two spellings mean the same, or raises
ValueError with a reason that completes the sentence "server.port = 1: ...".
"""

from __future__ import annotations

import re
from decimal import Decimal
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from durable_streams.config.log_filter import LogFilter
from durable_streams.storage.modes import MODE_ALIASES

_PATH_CHARACTERS = re.compile(r"[A-Za-z0-9/._~!$&'()*+,;=:@-]+")
_HOST_CHARACTERS = re.compile(r"[A-Za-z0-9._:%-]+")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SIZE = re.compile(r"(?P<number>[0-9]{1,20}(\.[0-9]{1,9})?)\s*(?P<unit>[A-Za-z]*)", re.ASCII)
_RATE = re.compile(r"[1-9][0-9]{0,8} ?/ ?([1-9][0-9]{0,2} ?)?(second|minute|hour|day)s?", re.ASCII)
_SIZE_UNITS = {"": 1, "b": 1} | {
    f"{prefix}{binary}b": base**exponent
    for binary, base in (("", 1000), ("i", 1024))
    for exponent, prefix in enumerate("kmgt", 1)
}
"""Unit in lower case -> bytes: kB, MB, GB, TB are powers of 1000, KiB, MiB, GiB, TiB powers of 1024."""


def text_list(value: Any) -> Any:
    """A list written as one text, separated by commas, is what an environment variable can hold."""
    if isinstance(value, str):
        return tuple(item for item in (part.strip() for part in value.split(",")) if item)
    if isinstance(value, list):
        return tuple(value)
    return value


def byte_count(value: Any) -> Any:
    """A text such as `100MiB`, `1.5 GB` or `4096` as a number of bytes; anything else is left to the declared type."""
    if not isinstance(value, str):
        return value
    found = _SIZE.fullmatch(value.strip())
    factor = _SIZE_UNITS.get(found["unit"].lower()) if found else None
    if found is None or factor is None:
        raise ValueError("must be a whole number of bytes, or a size such as 512KiB, 100MiB or 2GB")
    count = Decimal(found["number"]) * factor
    if count != int(count):
        raise ValueError("is not a whole number of bytes")
    return int(count)


def cors_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    if "*" in origins and len(origins) > 1:
        raise ValueError("'*' allows every origin and must stand alone")
    for origin in origins:
        if origin != "*" and not _is_origin(origin):
            raise ValueError(f"{origin!r} is not an origin such as https://example.org:8443")
    return origins


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        return False
    bare = f"{parts.scheme}://{parts.netloc}"
    return bool(parts.scheme and parts.hostname and port_is_valid and text == bare and "@" not in text)


def url_path(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("must start with '/'")
    if path != "/" and path.endswith("/"):
        raise ValueError("must not end with '/'")
    if not _PATH_CHARACTERS.fullmatch(path):
        raise ValueError("must be a literal URL path without white space, escapes, query or fragment")
    if path != "/" and any(segment in ("", ".", "..") for segment in path[1:].split("/")):
        raise ValueError("must not contain empty, '.' or '..' segments")
    return path


def base_paths(paths: tuple[str, ...]) -> tuple[str, ...]:
    if not paths:
        raise ValueError("must name at least one path")
    for path in paths:
        try:
            url_path(path)
        except ValueError as exc:
            raise ValueError(f"{path!r} {exc}" if len(paths) > 1 else str(exc)) from None
    if len(set(paths)) < len(paths):
        raise ValueError("must not name a path twice")
    return paths


def header_names(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not _HEADER_NAME.fullmatch(name) or name == "*":
            raise ValueError(f"{name!r} is not the name of a header")
    return names


def host(name: str) -> str:
    bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    if not _HOST_CHARACTERS.fullmatch(bare):
        raise ValueError("must be a host name or an address without a port")
    if ":" in bare and bare.count(":") < 2:
        raise ValueError("must be a host name or an address without a port")
    return bare


def root_url(text: str) -> str:
    """Empty, or an absolute URL that a path can be added to."""
    if not text:
        return text
    parts = urlsplit(text)
    bare = f"{parts.scheme}://{parts.netloc}{parts.path}"
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in text or text != bare:
        raise ValueError("must be a URL such as https://streams.example/v1/stream")
    if text.endswith("/"):
        raise ValueError("must not end with '/'")
    return text


def origin_url(text: str) -> str:
    """Empty, or scheme, host and port of a URL."""
    if root_url(text) and urlsplit(text).path:
        raise ValueError("must have no path: paths are those of http.stream_base_path")
    return text


def keys_url(text: str) -> str:
    """Empty, or a URL that nobody on the way can answer in the name of its host: whoever can would make tokens."""
    if not text:
        return text
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    is_local = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not parts.hostname or "@" in parts.netloc or not (parts.scheme == "https" or is_local):
        raise ValueError("must be an https URL; http is for localhost alone")
    return text


def host_patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    for pattern in patterns:
        bare = pattern.removeprefix("*.")
        if not _HOST_CHARACTERS.fullmatch(bare) or "*" in bare:
            raise ValueError(f"{pattern!r} is not a host name such as worker.example or *.example")
    return tuple(pattern.lower() for pattern in patterns)


def networks(texts: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(str(ip_network(text)) for text in texts)
    except ValueError as exc:
        raise ValueError(f"{exc}; a network is written as 10.1.0.0/16") from None


def directory(value: Any) -> Any:
    if isinstance(value, str):
        if not value.strip():
            raise ValueError("must not be empty")
        if "\0" in value:
            raise ValueError("must not contain a NUL character")
        return Path(value)
    return value


def optional_file(value: Any) -> Any:
    """An empty text unsets the path, so that a later layer can override an earlier one."""
    if isinstance(value, str):
        return directory(value) if value else None
    return value


def rate(text: str) -> str:
    if not _RATE.fullmatch(text):
        raise ValueError("must be a rate such as 100/minute, 10/second or 1000/2 hours")
    return text


def power_of_two(count: int) -> int:
    if count & (count - 1):
        raise ValueError("must be a power of two from 1 to 256")
    return count


def log_filter_text(text: str) -> str:
    LogFilter.parse(text)
    return text


def storage_mode_name(value: Any) -> Any:
    return MODE_ALIASES.get(value, value) if isinstance(value, str) else value


def acid_backend_name(value: Any) -> Any:
    return "in-memory" if value in ("memory", "inmemory") else value


def address(text: str) -> tuple[str, int]:
    """`host:port` or `[ipv6]:port`, the later Rust name for two settings."""
    name, colon, port = text.rpartition(":")
    if not colon or not name or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be host:port")
    if ":" in name and not (name.startswith("[") and name.endswith("]")):
        raise ValueError("an IPv6 address must stand in brackets before its port")
    return host(name), int(port)


def sql_identifier(name: str) -> str:
    """A name that needs no quotes in SQL."""
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name):
        raise ValueError(
            "must be 1 to 63 lower-case letters, digits and underscores, and not begin with a digit"
        )
    return name
