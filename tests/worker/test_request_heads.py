"""The fast path's reader of heads takes nothing that gunicorn's strict parser refuses, and reads it the same way."""

from __future__ import annotations

import os
import random
import time
from typing import Any

import pytest
from gunicorn.http import get_parser, wsgi

from durable_streams.worker.request_heads import (
    HEADS_KEPT,
    KEPT_HEAD_BYTES_MAX,
    REMEMBERED_MAX,
    FastRequest,
    RequestHeads,
    UnixRequestHeads,
    is_host,
)
from tests.worker.in_process import (
    CLIENT,
    LISTENER,
    UNIX_CLIENT,
    UNIX_LISTENER,
    UNTRUSTED_CLIENT,
    gunicorn_config,
    stream_worker,
)
from tests.worker.request_samples import HOST, MALFORMED, SAMPLES, WELL_FORMED, get, post

ROUNDS = int(os.environ.get("FUZZ_ROUNDS", "30000"))
# What cannot be compared, or is one object a request.
NOT_COMPARED = {"wsgi.input", "wsgi.errors", "wsgi.early_hints", "gunicorn.socket"}

TAKEN = {
    "plain", "query", "empty query", "encoded path", "half an escape", "every character of a target",
    "colon in the first segment", "scheme of a proxy",
    "HEAD", "DELETE", "port in Host", "IPv6 Host", "empty Host", "empty value",
    "space round a value", "Latin-1 value", "names of the environ", "body", "empty body", "zeros before a length",
    "body of GET", "Expect", "Expect in capitals", "Expect without a body", "close", "Close in capitals",
    "keep-alive", "three at once", "all kinds at once", "empty lines between",
}  # fmt: skip
# gunicorn names the server by the Host header there, and cuts that at every colon.
LEFT_BEHIND_A_UNIX_SOCKET = {"IPv6 Host", "empty Host"}
TAKEN_THOUGH_WRONG_LATER = {"body cut off", "good before bad"}


CLIENTS: tuple[Any, ...] = (CLIENT, UNTRUSTED_CLIENT, UNIX_CLIENT)


def heads_for(client: Any, config: Any) -> RequestHeads:
    return UnixRequestHeads(config) if client == UNIX_CLIENT else RequestHeads(config, client is CLIENT)


def reading_of_gunicorn(data: bytes, client: Any, config: Any) -> tuple[dict[str, Any], bytes] | None:
    """The environ and what follows the head, or None when the request is refused or not complete."""
    parser = get_parser(config, iter([data]), client)
    try:
        request = next(parser)
    except (Exception, StopIteration):
        return None
    request._expected_100_continue = False
    listener = UNIX_LISTENER if client == UNIX_CLIENT else LISTENER
    _, environ = wsgi.create(request, None, client, listener.getsockname(), config)
    environ["wsgi.multithread"] = True
    return comparable(environ), parser.unreader.take_buffered()


def comparable(environ: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in environ.items() if key not in NOT_COMPARED}


def connection_environ(client: Any = CLIENT) -> dict[str, Any]:
    common = {**stream_worker().base_environ, "wsgi.url_scheme": "http"}
    if client == UNIX_CLIENT:
        return {**common, "REMOTE_ADDR": client}
    return {
        **common,
        "REMOTE_ADDR": client[0],
        "REMOTE_PORT": str(client[1]),
        "SERVER_NAME": LISTENER.getsockname()[0],
        "SERVER_PORT": str(LISTENER.getsockname()[1]),
    }


def compare(
    data: bytes, heads: RequestHeads, connection: dict[str, Any], config: Any, client: Any = CLIENT
) -> FastRequest | None:
    """Our reading, after a look whether gunicorn reads the same."""
    ours = heads.read(data, connection)
    if ours is not None:
        theirs = reading_of_gunicorn(data, client, config)
        assert theirs is not None, f"gunicorn refuses {data!r}"
        environ, rest = theirs
        assert comparable(ours.environ) == environ, f"read in another way: {data!r}"
        assert data[ours.body_start :] == rest
        assert ours.body_bytes == int(environ.get("CONTENT_LENGTH", 0))
    return ours


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_a_request_is_read_as_gunicorn_reads_it_or_left_to_it(sample: Any) -> None:
    config = gunicorn_config()
    for client in CLIENTS:
        connection = connection_environ(client)
        taken = compare(sample.sent, heads_for(client, config), connection, config, client) is not None
        if client is UNTRUSTED_CLIENT and sample.name == "contradicting schemes":
            assert taken
            continue
        left = LEFT_BEHIND_A_UNIX_SOCKET if client == UNIX_CLIENT else set()
        assert taken == (sample.name in (TAKEN | TAKEN_THOUGH_WRONG_LATER) - left)


@pytest.mark.parametrize("sample", WELL_FORMED, ids=lambda sample: sample.name)
def test_a_head_that_comes_again_is_read_the_same_way(sample: Any) -> None:
    config, connection = gunicorn_config(), connection_environ()
    heads = RequestHeads(config, True)
    first = compare(sample.sent, heads, connection, config)
    if first is not None:
        # What an application does to its environ is not what the next one gets.
        first.environ.clear()
    second = compare(sample.sent, heads, connection, config)
    assert (first is None) is (second is None)


def test_the_table_knows_all_names() -> None:
    assert {sample.name for sample in WELL_FORMED} >= TAKEN
    assert {sample.name for sample in MALFORMED} >= TAKEN_THOUGH_WRONG_LATER
    assert len({sample.name for sample in SAMPLES}) == len(SAMPLES)


@pytest.mark.parametrize("sample", WELL_FORMED, ids=lambda sample: sample.name)
def test_no_part_of_a_head_is_taken_for_a_whole_one(sample: Any) -> None:
    heads, connection = RequestHeads(gunicorn_config(), True), connection_environ()
    end = sample.sent.find(b"\r\n\r\n") + 4
    assert all(heads.read(sample.sent[:cut], connection) is None for cut in range(1, end))


@pytest.mark.parametrize(
    ("client", "value", "scheme"),
    [
        (CLIENT, b"https", "https"),
        (CLIENT, b"HTTPS", "http"),
        (UNTRUSTED_CLIENT, b"https", "http"),
        (UNIX_CLIENT, b"https", "https"),
    ],
)
def test_only_a_trusted_proxy_is_believed_about_the_scheme(client: Any, value: bytes, scheme: str) -> None:
    config = gunicorn_config()
    data = get(fields=b"X-Forwarded-Proto: " + value + b"\r\n")
    request = compare(data, heads_for(client, config), connection_environ(client), config, client)
    assert request is not None
    assert request.environ["wsgi.url_scheme"] == scheme


TOKENS = [
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b"\x0b", b"\x0c", b"\x00", b"\x7f", b"\x80", b"\xff", b":", b",",
    b";", b"%", b"%00", b"%zz", b"/", b"//", b"?", b"#", b"[", b"]", b"@", b"_", b"\\", b"*", b"HTTP/1.1", b"HTTP/1.0",
    b"HTTP/1.9", b"HTTP/2.0", b"GET ", b"POST ", b"get", b"OPTIONS", b"CONNECT", b"http://h/", b"Host: a\r\n", b"Host:",
    b"Content-Length: 3\r\n", b"Content-Length: 1\r\n", b"Content-Length:", b"Content-Type: a\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Connection: upgrade\r\n", b"Upgrade: h2c\r\n",
    b"Expect: 100-continue\r\n", b"Expect: x\r\n", b"X-Forwarded-Proto: https\r\n",
    b"X-Forwarded-Ssl: on\r\n", b"X_A: b\r\n", b"X-A: b\r\n",
    b"\r\n c", b"0", b"+", b"-", b"9" * 30, b"a" * 300, b"b" * 4500,
]  # fmt: skip
SEEDS = [
    get(), get(b"/a/b%20c?offset=-1&live=sse"), get(b"/", b"Accept: */*\r\nUser-Agent: x/1.0 (y; z)\r\n"),
    post(b"Content-Type: text/plain\r\nContent-Length: 5\r\n", b"hello"),
    post(b"Content-Length: 3\r\nExpect: 100-continue\r\n", b"abc"),
    b"PUT /a HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\nConnection: keep-alive\r\nStream-TTL: 60\r\n\r\n",
    *(sample.sent for sample in SAMPLES if len(sample.sent) < 600 and sample.sent),
]  # fmt: skip


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A few changes: bytes dropped, doubled, replaced, and pieces of other requests put in."""
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(data) + 1)
        kind = chance.randrange(5)
        if kind == 0:
            data = data[:at] + data[at + chance.randint(1, 4) :]
        elif kind == 1:
            data = data[:at] + chance.choice(TOKENS) + data[at:]
        elif kind == 2:
            data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
        elif kind == 3:
            lines = data.split(b"\r\n")
            lines.insert(chance.randrange(len(lines)), chance.choice(lines))
            data = b"\r\n".join(lines)
        else:
            other = chance.choice(SEEDS)
            data = data[:at] + other[chance.randrange(len(other)) :]
    return data


def test_whatever_is_changed_in_a_request_nothing_is_taken_that_gunicorn_refuses() -> None:
    seed = int(os.environ.get("FUZZ_SEED", time.time_ns() % 1_000_000_007))
    print(f"FUZZ_SEED={seed}")
    chance = random.Random(seed)
    config = gunicorn_config()
    clients = [(heads_for(client, config), connection_environ(client), client) for client in CLIENTS]
    taken = 0
    for _ in range(ROUNDS):
        heads, connection, client = chance.choice(clients)
        data = mutated(chance.choice(SEEDS), chance)
        taken += compare(data, heads, connection, config, client) is not None
    # If next to nothing were taken, nothing would have been compared.
    assert taken > ROUNDS / 20


@pytest.mark.parametrize("host", [b"a", b"a:", b"a:80", b":80", b"127.0.0.1", b"[::1]", b"[::1]:80", b""])
@pytest.mark.parametrize("scheme", [b"", b"X-Forwarded-Proto: https\r\n"])
def test_behind_a_unix_socket_the_host_header_names_the_server(host: bytes, scheme: bytes) -> None:
    """As gunicorn does it; what it makes of an IPv6 address is left to it."""
    config = gunicorn_config()
    data = b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n" + scheme + b"\r\n"
    heads = UnixRequestHeads(config)
    request = compare(data, heads, connection_environ(UNIX_CLIENT), config, UNIX_CLIENT)
    assert (request is None) == (host == b"" or host.startswith(b"["))


@pytest.mark.parametrize(
    ("settings", "data"),
    [
        ({"limit_request_line": 20}, get(b"/aaaaaaaaaaaaaaaaaa")),
        ({"limit_request_field_size": 30}, get(b"/", b"X-Long: " + b"a" * 30 + b"\r\n")),
        ({"limit_request_fields": 2}, get(b"/", b"X-A: 1\r\nX-B: 2\r\n")),
        ({"header_map": "refuse"}, get(b"/", b"X_A: 1\r\n")),
        ({"secure_scheme_headers": {"X-A": "1", "X-B": "2"}}, get(b"/", b"X-A: 1\r\nX-B: 2\r\n")),
    ],
    ids=lambda part: next(iter(part)) if isinstance(part, dict) else "",
)
def test_settings_of_gunicorn_are_kept(settings: dict[str, Any], data: bytes) -> None:
    assert (
        RequestHeads(gunicorn_config(), True).read(data.replace(b"X_A", b"X-C"), connection_environ())
        is not None
    )
    config = gunicorn_config(**settings)
    assert compare(data, RequestHeads(config, True), connection_environ(), config) is None


def test_what_is_remembered_of_names_and_hosts_is_bounded() -> None:
    config, connection = gunicorn_config(), connection_environ()
    heads = RequestHeads(config, True)
    for number in range(2 * REMEMBERED_MAX):
        host = b"Host: h%d\r\nX-%d: a\r\n" % (number, number)
        assert compare(b"GET / HTTP/1.1\r\n" + host + b"\r\n", heads, connection, config) is not None
    assert len(heads._keys) <= REMEMBERED_MAX
    assert len(heads._hosts) <= REMEMBERED_MAX
    assert len(heads._kept) <= HEADS_KEPT
    long = b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * KEPT_HEAD_BYTES_MAX + b"\r\n\r\n"
    assert compare(long, heads, connection, config) is not None
    assert long not in heads._kept


@pytest.mark.parametrize(
    "value", ["", "a", "a.b-c_d", "a:", "a:80", "127.0.0.1:1", "[::1]", "[::1]:80", "[v1.a]", "%41"]
)
def test_these_are_hosts(value: str) -> None:
    assert is_host(value)


@pytest.mark.parametrize(
    "value", ["a b", "a/b", "a@b", "a:b", "a:1:2", "::1", "[::1", "[a]b", "a\t", "ü", "a?b", "a#b"]
)
def test_these_are_no_hosts(value: str) -> None:
    assert not is_host(value)
