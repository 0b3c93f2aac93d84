"""Reads a request head with gunicorn's C parser, straight into a WSGI environ: the fast path.

It takes only what this module fully understands and what gunicorn's strict parser would accept with the same environ.
For everything else it returns None: then gunicorn's own parser decides (the slow path), also about what to refuse.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from gunicorn_h1c import parse_request_fast

METHODS: Final = {
    name.encode(): name for name in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH")
}
LINE_BYTES_MAX: Final = 8190
"""What gunicorn accepts where its settings say nothing sensible."""
HEADERS_MAX: Final = 32_768
REMEMBERED_MAX: Final = 512
"""Header names, and hosts, that are checked once and then known. More are checked every time."""

# Origin form without a fragment. A second slash at the beginning would be taken for an authority.
_TARGET: Final = re.compile(rb'(/(?:[!"$-.0->@-~][!"$->@-~]*)?)(?:\?([!"$-~]*))?')
# RFC 9110 section 7.2: uri-host [ ":" port ], where the host may be empty.
_HOST: Final = re.compile(r"(?:\[[0-9A-Za-z:.%_~!$&'()*+,;=-]+\]|[0-9A-Za-z.%_~!$&'()*+,;=-]*)(?::[0-9]*)?")
# They change how the rest of the message is read, or by which protocol.
_SLOW_HEADERS: Final = frozenset({"TRANSFER-ENCODING", "UPGRADE"})
_SLOW: Final = ""

HEAD_END: Final = b"\r\n\r\n"
HEADS_KEPT: Final = 256
KEPT_HEAD_BYTES_MAX: Final = 1024

Environ = dict[str, Any]
_Head = tuple[Environ | None, int, bool]
"""The part of the environ that a head gives, the length of its body, and whether the connection is kept."""
_SLOW_HEAD: Final[_Head] = (None, 0, False)


class FastRequest:
    """A request whose head has been read. ``body_start`` is where its body begins in the bytes it was read from."""

    __slots__ = ("body_bytes", "body_start", "environ", "expects_continue", "keep_alive")

    def __init__(self, environ: Environ, body_start: int, body_bytes: int, keep_alive: bool) -> None:
        self.environ = environ
        self.body_start = body_start
        self.body_bytes = body_bytes
        self.keep_alive = keep_alive
        self.expects_continue = "HTTP_EXPECT" in environ


def is_host(value: str) -> bool:
    """Whether ``value`` can be that of a Host header (RFC 9112 section 3.2 wants 400 for any other)."""
    return _HOST.fullmatch(value) is not None


class RequestHeads:
    """The reader of heads, under gunicorn's settings. What it remembers of names and hosts is bounded."""

    def __init__(self, cfg: Any, trusts_peer: bool) -> None:
        """``trusts_peer``: whether the client is one of gunicorn's `forwarded_allow_ips`."""
        self._headers_max = (
            cfg.limit_request_fields if 0 < cfg.limit_request_fields < HEADERS_MAX else HEADERS_MAX
        )
        # A head no longer than either limit has no line longer than that, however gunicorn counts.
        self._head_bytes_max = min(
            _line_limit(cfg.limit_request_line), _field_limit(cfg.limit_request_field_size)
        )
        self._schemes: dict[str, str] = dict(cfg.secure_scheme_headers) if trusts_peer else {}
        self._keys: dict[bytes, str] = {}
        self._hosts: set[str] = set()
        self._kept: dict[bytes, _Head] = {}

    def read(self, data: bytes, connection: Mapping[str, Any]) -> FastRequest | None:
        """The request at the beginning of ``data``, its environ begun by that of its connection."""
        end = data.find(HEAD_END) + len(HEAD_END)
        head = data[:end]
        fields, body_bytes, keep_alive = self._kept.get(head) or self._read(head)
        if fields is None:
            return None
        return FastRequest({**connection, **fields}, end, body_bytes, keep_alive)

    def _read(self, data: bytes) -> _Head:
        """What the head says. It is remembered, for clients send the same again."""
        try:
            head = parse_request_fast(data, limit_request_fields=self._headers_max)
        except Exception:
            # Incomplete or wrong, and the parser's two modules have two classes for the former.
            return _SLOW_HEAD
        method, target, head_bytes = head.method, head.path, head.consumed
        if head_bytes > self._head_bytes_max or head_bytes != len(data) or method not in METHODS:
            return _SLOW_HEAD
        # The C parser skips further spaces, takes another version, and an empty line before all that.
        if not data.startswith(b"%b %b HTTP/1.1\r\n" % (method, target)):
            return _SLOW_HEAD
        if data.count(b"\n", 0, head_bytes) != data.count(b"\r\n", 0, head_bytes):
            return _SLOW_HEAD
        fields: Environ = {"REQUEST_METHOD": METHODS[method]}
        if not _add_target(fields, target) or not self._add_headers(fields, head.headers):
            return _SLOW_HEAD
        keep_alive = _keep_alive(fields)
        if keep_alive is None or fields.get("HTTP_EXPECT", "100-continue").lower() != "100-continue":
            return _SLOW_HEAD
        found = fields, max(0, head.content_length), keep_alive
        if head_bytes <= KEPT_HEAD_BYTES_MAX:
            if len(self._kept) >= HEADS_KEPT:
                # Those that come again are soon back.
                self._kept.clear()
            self._kept[data] = found
        return found

    def _add_headers(self, environ: Environ, headers: tuple[tuple[bytes, bytes], ...]) -> bool:
        keys = self._keys
        for name, value in headers:
            key = keys.get(name)
            if key is None:
                key = self._key(name)
            if not key:
                if not self._add_scheme(environ, name, value):
                    return False
            elif key in environ:
                return False
            else:
                environ[key] = str(value, "latin-1")
        host = environ.get("HTTP_HOST")
        return host in self._hosts or self._is_new_host(host)

    def _key(self, name: bytes) -> str:
        """The environ's key of a header, or _SLOW."""
        upper = name.decode("latin-1").upper()
        is_slow = upper in _SLOW_HEADERS or upper in self._schemes or "_" in upper
        key = _SLOW if is_slow else _key_of(upper)
        if len(self._keys) < REMEMBERED_MAX:
            self._keys[name] = key
        return key

    def _add_scheme(self, environ: Environ, name: bytes, value: bytes) -> bool:
        """Take the scheme from a trusted proxy; False for any other header, and where two speak of the scheme."""
        upper = name.decode("latin-1").upper()
        if upper not in self._schemes or "_" in upper or any(_key_of(it) in environ for it in self._schemes):
            return False
        environ[_key_of(upper)] = text = str(value, "latin-1")
        environ["wsgi.url_scheme"] = "https" if text == self._schemes[upper] else "http"
        return True

    def _is_new_host(self, host: str | None) -> bool:
        if host is None or not is_host(host):
            return False
        if len(self._hosts) < REMEMBERED_MAX:
            self._hosts.add(host)
        return True


class UnixRequestHeads(RequestHeads):
    """The reader for a Unix-domain listener: its peer is trusted, and the server's name is that of the Host header."""

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg, trusts_peer=True)

    def read(self, data: bytes, connection: Mapping[str, Any]) -> FastRequest | None:
        request = super().read(data, connection)
        if request is None:
            return None
        environ = request.environ
        name, *port = environ["HTTP_HOST"].split(":")
        if len(port) > 1 or not (name or port):
            # An IPv6 address, which gunicorn cuts at its colons; no host at all, where it takes the socket's path.
            return None
        environ["SERVER_NAME"] = name
        environ["SERVER_PORT"] = port[0] if port else "443" if environ["wsgi.url_scheme"] == "https" else "80"
        return request


def served_under_a_prefix() -> bool:
    """Whether gunicorn is given a SCRIPT_NAME, which it removes from every path."""
    return bool(os.environ.get("SCRIPT_NAME"))


def _key_of(upper: str) -> str:
    key = upper.replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key


def _line_limit(setting: int) -> int:
    return setting if 0 < setting < LINE_BYTES_MAX else LINE_BYTES_MAX


def _field_limit(setting: int) -> int:
    return setting if setting > 0 else LINE_BYTES_MAX


def _add_target(environ: Environ, target: bytes) -> bool:
    found = _TARGET.fullmatch(target)
    if found is None:
        return False
    path, query = found.groups()
    environ["RAW_URI"] = str(target, "latin-1")
    environ["PATH_INFO"] = str(unquote_to_bytes(path) if b"%" in path else path, "latin-1")
    environ["QUERY_STRING"] = "" if query is None else str(query, "latin-1")
    return True


def _keep_alive(environ: Environ) -> bool | None:
    """Whether the client keeps the connection; None for any other value of the header."""
    option = environ.get("HTTP_CONNECTION")
    if option is None:
        return True
    return {"keep-alive": True, "close": False}.get(option.lower())
