"""Stream names in URLs: decoded exactly once, checked, never confused with each other or with control paths."""

from __future__ import annotations

import pytest

from tests.web.conftest import OpenServer
from tests.web.driving import BASE, TEXT, Server


@pytest.fixture(params=[False, True], ids=["own app", "embedded"])
def server(request: pytest.FixtureRequest, open_server: OpenServer) -> Server:
    return open_server(embedded=request.param)


NAMES = {
    "a": "a",
    "a/b/c": "a/b/c",
    "v1.2": "v1.2",
    "..foo": "..foo",
    "...": "...",
    "a/.b": "a/.b",
    "%61": "a",
    "%2561": "%61",
    "%252e%252e": "%2e%2e",
    "a%2Fb": "a/b",
    "a+b": "a+b",
    "a%20b": "a b",
    "%C3%A4": "\u00e4",
    "%F0%9F%8C%8A": "\N{WATER WAVE}",
    "a%3Fb%23c": "a?b#c",
    "x__ds": "x__ds",
    "a/__ds": "a/__ds",
    "__dsx": "__dsx",
    "%0D%0A": "\r\n",
    "healthz": "healthz",
    "a;b=c": "a;b=c",
    "/".join(["s"] * 32): "/".join(["s"] * 32),
}


@pytest.mark.parametrize(("written", "name"), NAMES.items())
def test_a_name_is_decoded_once(server: Server, written: str, name: str) -> None:
    assert server.put(written, b"text", TEXT).status_int == 201
    assert server.store.storage.names("", "", 10) == [name]
    assert server.get(written).body == b"text"
    assert server.head(written).status_int == 200


REASONS = {
    "": "stream name cannot be empty",
    "a/": "stream name must not end with '/'",
    "/": "stream name must not end with '/'",
    "a%2F": "stream name must not end with '/'",
    "a//b": "stream name contains empty segments (consecutive '/' characters)",
    "a/%2Fb": "stream name contains empty segments (consecutive '/' characters)",
    ".": "stream name contains invalid segment '.'",
    "a/./b": "stream name contains invalid segment '.'",
    "a/../b": "stream name contains invalid segment '..'",
    "%2e%2e/%2e%2e/etc/passwd": "stream name contains invalid segment '..'",
    "..%2F..%2Fetc": "stream name contains invalid segment '..'",
    "a%00b": "stream name contains a NUL character",
    "%ff": "stream name is not UTF-8",
    "%C0%AE%C0%AE/x": "stream name is not UTF-8",
    "%ED%A0%80": "stream name is not UTF-8",
    "n" * 1025: "stream name is 1025 bytes, which exceeds the maximum of 1024 bytes",
    "%C3%A4" * 513: "stream name is 1026 bytes, which exceeds the maximum of 1024 bytes",
    "/".join(["s"] * 33): "stream name has 33 path segments, which exceeds the maximum of 32",
}


@pytest.mark.parametrize(("written", "reason"), REASONS.items(), ids=[name[:20] for name in REASONS])
@pytest.mark.parametrize("method", ["PUT", "POST", "GET", "HEAD", "DELETE"])
def test_a_name_that_is_none_is_refused_and_the_reason_given(
    server: Server, method: str, written: str, reason: str
) -> None:
    answer = server.request(method, BASE + written, headers=TEXT)
    assert answer.status_int == 400
    if method != "HEAD":
        assert answer.json["code"] == "INVALID_STREAM_NAME"
        assert answer.json["detail"] == f"Invalid stream name: {reason}"
    assert server.store.storage.names("", "", 10) == []


def test_the_longest_names_are_accepted(server: Server) -> None:
    assert server.put("n" * 1024).status_int == 201
    assert server.put("%C3%A4" * 512).status_int == 201


def test_the_path_without_a_name_is_no_stream(server: Server) -> None:
    answer = server.put(BASE.rstrip("/"), headers=TEXT)
    assert (answer.status_int, answer.json["code"]) == (400, "INVALID_STREAM_NAME")


@pytest.mark.parametrize("written", ["__ds", "__ds/", "__ds/x", "__ds//x", "%5F_ds/x", "__ds%2Fx"])
@pytest.mark.parametrize("method", ["PUT", "POST", "GET", "HEAD", "DELETE", "PATCH"])
def test_control_paths_are_never_streams(server: Server, method: str, written: str) -> None:
    assert server.request(method, written, headers=TEXT).status_int == 404
    assert server.store.storage.names("", "", 10) == []


def test_limits_of_names_are_settings(open_server: OpenServer) -> None:
    server = open_server(limits={"max_stream_name_bytes": 4, "max_stream_name_segments": 2})
    assert [server.put(name).status_int for name in ("abcd", "a/bc", "abcde", "a/b/c")] == [
        201,
        201,
        400,
        400,
    ]


@pytest.mark.parametrize("base", ["/", "/streams", "/a/deep/path"])
def test_the_base_path_is_a_setting(open_server: OpenServer, base: str) -> None:
    server = open_server(http={"stream_base_path": base})
    path = f"{base.rstrip('/')}/my/stream"
    answer = server.put(path, b"x", TEXT)
    assert answer.headers["Location"].endswith(path)
    assert server.get(path).body == b"x"
    assert server.put(f"{base.rstrip('/')}/fork", headers={"Stream-Forked-From": path}).status_int == 201
    assert server.get("/healthz").text == "ok"
    assert server.get("/readyz").text == "ready"


def test_several_base_paths_lead_to_the_same_streams(open_server: OpenServer) -> None:
    server = open_server(http={"stream_base_path": ["/v1", "/v1/streams", "/v1/stream"]})
    for base in ("/v1/stream", "/v1/streams", "/v1"):
        source = server.put(f"{base}/{base[1:]}/own", b"x", TEXT)
        assert source.headers["Location"].endswith(f"{base}/{base[1:]}/own")
        forked = server.put(
            "/v1/stream/" + f"fork{base}", headers={"Stream-Forked-From": f"{base}/{base[1:]}/own"}
        )
        assert forked.status_int == 201
    names = server.store.storage.names("", "", 10)
    # Below /v1/streams and /v1/stream a name of /v1 would be shadowed: the longest base counts.
    assert sorted(names) == sorted(
        [*(f"{base}/own" for base in ("v1/stream", "v1/streams", "v1"))]
        + [f"fork/{base}" for base in ("v1/stream", "v1/streams", "v1")]
    )


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/v1/stream/s", 200),
        ("/v1/stream/s?offset=%2F", 400),
        ("/%76%31/stream/s", 200),
        ("http://localhost/v1/stream/s", 200),
        ("/v1/stream/a%2Fb", 200),
        ("http://localhost/v1/stream/a%2Fb", 200),
        ("/v1/stream%2Fs", 404),
        ("/v1%2Fstream/s", 404),
        ("/v1%2fstream/s", 404),
        ("http://localhost/v1%2Fstream/s", 404),
    ],
)
def test_an_encoded_slash_is_part_of_a_name_and_never_of_the_base(
    server: Server, target: str, status: int
) -> None:
    """In a name it is the same as a slash, which RFC 3986 leaves to the server: WSGI passes on the decoded path alone.

    The base path belongs to whoever routes, and a proxy that guards `/v1/stream` must not be led past its rule.
    """
    for name in ("s", "a/b"):
        server.put(name, b"x", TEXT)
    path, _, query = target.removeprefix("http://localhost").partition("?")
    answer = server.request("GET", f"{path}?{query}", RAW_URI=target)
    assert answer.status_int == status


def test_streams_at_the_root_leave_the_routes_of_the_app_alone(open_server: OpenServer) -> None:
    server = open_server(http={"stream_base_path": "/"})
    assert server.put("/healthz/x", b"x", TEXT).status_int == 201
    assert server.put("/healthz", b"x", TEXT).status_int == 405
    assert server.put("/health", b"x", TEXT).status_int == 201
