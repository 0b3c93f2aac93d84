"""Content-Encoding of request bodies: undone within the limit, or refused with what is supported."""

from __future__ import annotations

import gzip
import zlib

import brotli
import pytest
import zstandard

from tests.web.conftest import OpenServer
from tests.web.driving import JSON, TEXT, Server

LIMIT = 100_000
TEXT_BODY = b"the same words again and again\n" * 1000
CODERS = {
    "gzip": lambda body: gzip.compress(body, mtime=0),
    "X-GZIP": lambda body: gzip.compress(body, mtime=0),
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
    "br": lambda body: brotli.compress(body, quality=5),
}


@pytest.fixture
def server(open_server: OpenServer) -> Server:
    return open_server(limits={"max_request_body_bytes": LIMIT})


@pytest.mark.parametrize("coding", CODERS)
def test_what_is_stored_is_the_decoded_body(server: Server, coding: str) -> None:
    coded = {"Content-Encoding": coding}
    body = CODERS[coding](TEXT_BODY)
    assert server.put("s", body, {**TEXT, **coded}).status_int == 201
    assert server.post("s", body, {**TEXT, **coded}).status_int == 204
    assert server.get("s").body == TEXT_BODY * 2
    server.put("j", headers=JSON)
    assert server.post("j", CODERS[coding](b"[1, 2]"), {**JSON, **coded}).status_int == 204
    assert server.get("j").json == [1, 2]


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_members_one_after_the_other_are_one_body(server: Server, coding: str) -> None:
    body = CODERS[coding](b"one, ") + CODERS[coding](b"two")
    server.put("s", body, {**TEXT, "Content-Encoding": coding})
    assert server.get("s").body == b"one, two"


@pytest.mark.parametrize("coding", CODERS)
@pytest.mark.parametrize("size", [LIMIT + 1, 1000 * LIMIT])
def test_a_bomb_is_refused_and_not_inflated(server: Server, coding: str, size: int) -> None:
    body = CODERS[coding](bytes(size))
    assert len(body) < LIMIT
    refusal = server.put("s", body, {**TEXT, "Content-Encoding": coding})
    assert (refusal.status_int, refusal.json["code"]) == (413, "REQUEST_BODY_TOO_LARGE")
    assert server.head("s").status_int == 404
    assert (
        server.put("s", CODERS[coding](bytes(LIMIT)), {**TEXT, "Content-Encoding": coding}).status_int == 201
    )


@pytest.mark.parametrize("coding", CODERS)
def test_what_is_not_so_coded_or_ends_early_is_refused(server: Server, coding: str) -> None:
    whole = CODERS[coding](TEXT_BODY)
    server.put("s", headers=TEXT)
    for body in (b"plain", whole[:-1], whole[: len(whole) // 2], whole[:1], whole + b"more"):
        refusal = server.post("s", body, {**TEXT, "Content-Encoding": coding})
        assert (refusal.status_int, refusal.json["code"]) == (400, "INVALID_BODY"), body[-8:]
    assert server.get("s").body == b""


@pytest.mark.parametrize("coding", ["compress", "br, gzip", "gzip, gzip", "deflate, zstd", "nonsense", "*"])
def test_any_other_coding_is_refused_with_those_that_are_known(server: Server, coding: str) -> None:
    for method in ("PUT", "POST"):
        refusal = server.request(method, "s", b"x", {**TEXT, "Content-Encoding": coding})
        assert (refusal.status_int, refusal.json["code"]) == (415, "UNSUPPORTED_CODING")
        assert refusal.headers["Accept-Encoding"] == "zstd, gzip, deflate, br"
    assert server.head("s").status_int == 404


@pytest.mark.parametrize("coding", ["identity", "IDENTITY", "identity, identity"])
def test_no_coding_is_none(server: Server, coding: str) -> None:
    server.put("s", b"plain", {**TEXT, "Content-Encoding": coding})
    assert server.get("s").body == b"plain"
