"""Signed URLs: one stream, one method, a while; and no log that has one."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from time import time
from urllib.parse import parse_qs, urlsplit

import gevent
import pytest

from durable_streams import UrlSigner
from durable_streams.access.signed_urls import (
    KEYS_MAX,
    TOKEN_CHARACTERS_MAX,
    UrlKeysDamaged,
    url_token,
)
from durable_streams.cli import main
from durable_streams.startup import ExitCode
from durable_streams.telemetry.formats import JsonFormatter, TextFormatter
from durable_streams.telemetry.redaction import RedactingFilter, redact
from tests.access.conftest import MakeToken, gates_of
from tests.web.driving import PATIENCE_S, TEXT, Server

KEY, NEWER = "0123456789abcdef" * 2, "fedcba9876543210" * 2
WEEK = 7 * 86_400


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    found = tmp_path / "url-keys"
    found.write_text(f"{KEY}\n")
    return found


@pytest.fixture
def signer(keys: Path) -> UrlSigner:
    return UrlSigner(keys)


@pytest.fixture
def server(open_guarded: Callable[..., Server], make_token: MakeToken, path: Path, keys: Path) -> Server:
    setup = {"Authorization": f"Bearer {make_token('create write', name='setup')}"}
    auth = {"mode": "tokens", "tokens_path": str(path), "url_keys_path": str(keys)}
    server = open_guarded(auth=auth, metrics={"enabled": True})
    for name in ("a/b", "a/c", "\xe4 \u20ac/%"):
        from urllib.parse import quote

        assert server.put(quote(name), b"x", TEXT | setup).status_int == 201
    return server


def test_a_url_reads_its_stream_in_every_way(server: Server, signer: UrlSigner) -> None:
    token = signer.token("a/b", 60)
    response = server.get(f"a/b?offset=-1&token={token}")
    assert (response.status_int, response.body) == (200, b"x")
    assert response.headers["Cache-Control"].startswith("private")
    assert server.get(f"a/b?token={token}").status_int == 200
    assert server.get(f"a/b?offset=-1&live=long-poll&token={token}").status_int == 200
    reader = server.reading(f"a/b?offset=-1&live=sse&token={token}")
    reader.caught_up()
    assert reader.status == 200


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "a/c?offset=-1"),
        ("GET", "a/b/c?offset=-1"),
        ("GET", "a?offset=-1"),
        ("HEAD", "a/b?"),
        ("POST", "a/b?"),
        ("PUT", "a/b?"),
        ("DELETE", "a/b?"),
        ("GET", "/metrics?"),
        ("GET", "__ds/subscriptions?"),
    ],
)
def test_a_url_is_for_nothing_else(server: Server, signer: UrlSigner, method: str, target: str) -> None:
    response = server.request(method, f"{target}&token={signer.token('a/b', 60)}", b"", TEXT)
    assert response.status_int == 401


def test_a_url_may_be_for_head_alone(server: Server, signer: UrlSigner) -> None:
    token = signer.token("a/b", 60, "HEAD")
    assert server.head(f"a/b?token={token}").status_int == 200
    assert server.get(f"a/b?token={token}").status_int == 401


def test_names_of_every_script_are_signed_and_quoted(server: Server, signer: UrlSigner) -> None:
    url = signer.url("http://localhost/v1/stream/", "\xe4 \u20ac/%", 60, offset="-1")
    assert server.get(url.removeprefix("http://localhost")).status_int == 200
    assert parse_qs(urlsplit(url).query).keys() == {"offset", "token"}


def test_whatever_is_changed_refuses_a_url(server: Server, signer: UrlSigner, keys: Path) -> None:
    token = signer.token("a/b", 60)
    end, _, signature = token.removeprefix("dsu_").partition(".")
    other = keys.with_name("other")
    other.write_text(NEWER)
    wrong = [
        *("", ".", "dsu_", "dsu_.", "x", "%ff", "9" * 5000, f"dsu_{'9' * 100}.{signature}"),
        f"dsu_{int(end) + 1}.{signature}",
        f"dsu_-{end}.{signature}",
        f"dsu_{end}.{signature[:-1]}",
        f"dsu_{end}.{signature}A",
        f"dsu_{end}.{signature.swapcase()}",
        f"dsu_{end}.",
        UrlSigner(other).token("a/b", 60),
        f"{token}&token={token}",
    ]
    for each in wrong:
        assert server.get(f"a/b?offset=-1&token={each}").status_int == 401, each[:50]
    assert server.get(f"a/b?offset=-1&token={token}").status_int == 200


def test_a_bearer_token_counts_before_a_url(server: Server, signer: UrlSigner) -> None:
    target = f"a/b?offset=-1&token={signer.token('a/b', 60)}"
    assert server.get(target, {"Authorization": "Bearer wrong"}).status_int == 401


def test_urls_are_off_unless_there_are_keys(open_guarded: Callable[..., Server], signer: UrlSigner) -> None:
    assert open_guarded().get(f"a/b?token={signer.token('a/b', 60)}").status_int == 401


def test_a_url_ends_at_its_time_and_is_never_valid_for_longer_than_allowed(keys: Path) -> None:
    now = [1_800_000_000.0]
    signer = UrlSigner(keys, 100, lambda: now[0])
    token = signer.token("a", 60)
    now[0] += 59
    assert signer.grant_of(token, "a", "GET") is not None
    now[0] += 1
    assert signer.grant_of(token, "a", "GET") is None
    long = UrlSigner(keys, WEEK, lambda: now[0]).token("a", WEEK)
    assert signer.grant_of(long, "a", "GET") is None
    for lifetime_s in (0, -1, 101):
        with pytest.raises(ValueError, match="1 to 100 seconds"):
            signer.token("a", lifetime_s)
    with pytest.raises(ValueError, match="POST"):
        signer.token("a", 60, "POST")
    assert len(token) <= TOKEN_CHARACTERS_MAX


def test_a_key_is_replaced_by_adding_one(keys: Path, signer: UrlSigner) -> None:
    old = signer.token("a", 60)
    keys.write_text(f"{KEY}\n\n{NEWER}\n")
    signer.look()
    new = signer.token("a", 60)
    assert all(signer.grant_of(token, "a", "GET") for token in (old, new))
    keys.write_text(f"{NEWER}\n")
    signer.look()
    assert signer.grant_of(old, "a", "GET") is None
    assert signer.grant_of(new, "a", "GET") is not None


@pytest.mark.parametrize(
    "text", ["", "\n", "short", f"{KEY}\nshort", "\xe4" * 40, f"{KEY}\n" * (KEYS_MAX + 1)]
)
def test_a_file_without_usable_keys_is_refused(keys: Path, text: str) -> None:
    keys.write_text(text)
    with pytest.raises(UrlKeysDamaged, match=str(keys)):
        UrlSigner(keys)


@pytest.mark.parametrize(("live", "status"), [("sse", 200), ("long-poll", 204)])
def test_a_live_read_ends_with_its_url(server: Server, signer: UrlSigner, live: str, status: int) -> None:
    token = signer.token("a/b", 3600)
    end = int(token.removeprefix("dsu_").partition(".")[0])
    for gate in gates_of(server):
        gate._clock = lambda: end - 0.2
    reader = server.reading(f"a/b?offset=now&live={live}&token={token}")
    with gevent.Timeout(PATIENCE_S):
        reader.rest()
    assert reader.status == status


def test_only_one_token_counts() -> None:
    assert url_token({}) is None
    assert url_token({"QUERY_STRING": "offset=-1&token=a.b"}) == "a.b"
    assert url_token({"QUERY_STRING": "mytoken=a"}) is None
    assert url_token({"QUERY_STRING": "token=a&token=a"}) is None


# -- logs ----------------------------------------------------------------------------------------------------------

QUERIES = [
    "token=SECRET",
    "offset=-1&token=SECRET&live=sse",
    "%74oken=SECRET",
    "%54%4f%6B%65%6e=SECRET",
    "TOKEN=SECRET",
    "token=SECRET&token=SECRET",
    "token=dsu_17.SECRET%22SECRET",
]


@pytest.mark.parametrize("query", QUERIES)
def test_no_line_of_a_log_has_a_token(query: str) -> None:
    record = logging.LogRecord("x", logging.ERROR, "", 0, "failed: %s", (f"/v1/stream/a?{query}",), None)
    try:
        raise ValueError(f"GET /v1/stream/a?{query} HTTP/1.1")
    except ValueError as exc:
        record.exc_info = type(exc), exc, exc.__traceback__
        record.exc_text = None
    for formatter in (TextFormatter(), JsonFormatter()):
        line = formatter.format(record).replace('raise ValueError(f"GET', "")
        assert "SECRET" not in line
        assert "REDACTED" in line
    RedactingFilter().filter(record)
    assert "SECRET" not in record.getMessage()
    assert "SECRET" not in redact(query)


@pytest.mark.parametrize("text", ["", "offset=-1", "mytoken=x", "a token=", "durable-token=x", "broken = 5"])
def test_other_text_is_left_alone(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "target", ["a/b?offset=-1&token=", "a/b?offset=wrong&token=", "missing?token=", "//?token="]
)
def test_the_log_of_requests_has_no_token(
    open_guarded: Callable[..., Server], target: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = open_guarded(log={"rust_log": "info"})
    with caplog.at_level(logging.DEBUG):
        server.get(f"{target}SECRET")
    assert caplog.records
    for record in caplog.records:
        assert "SECRET" not in JsonFormatter().format(record)


# -- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def settings(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS_AUTH__MODE", "tokens")
    monkeypatch.setenv("DS_AUTH__URL_KEYS_PATH", str(keys))


@pytest.mark.usefixtures("settings")
def test_the_command_signs(capsys: pytest.CaptureFixture[str], signer: UrlSigner) -> None:
    assert main(["sign-url", "a/b"]) == 0
    token = capsys.readouterr().out.strip().removeprefix("token=")
    grant = signer.grant_of(token, "a/b", "GET")
    assert grant is not None
    assert 0 < grant.expires_at - time() <= 900
    root = "https://streams.example/v1/stream"
    assert main(["sign-url", "a/b", "--expires", "1h", "--url", root, "--live", "sse"]) == 0
    url = urlsplit(capsys.readouterr().out.strip())
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    assert (url.netloc, url.path) == ("streams.example", "/v1/stream/a/b")
    assert (query["offset"], query["live"]) == ("-1", "sse")
    assert signer.grant_of(query["token"], "a/b", "GET") is not None
    assert main(["sign-url", "a/b", "--method", "HEAD", "--url", root]) == 0
    assert json.dumps(capsys.readouterr().out).count("&") == 0


@pytest.mark.usefixtures("settings")
def test_the_command_refuses_what_it_cannot_sign(capsys: pytest.CaptureFixture[str], keys: Path) -> None:
    assert main(["sign-url", "a", "--expires", "30d"]) == ExitCode.USAGE
    assert "86400 seconds" in capsys.readouterr().err
    keys.write_text("short")
    assert main(["sign-url", "a"]) == ExitCode.DAMAGED
    keys.unlink()
    assert main(["sign-url", "a"]) == ExitCode.INPUT_OUTPUT


def test_the_command_needs_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sign-url", "a"]) == ExitCode.CONFIGURATION
    assert "auth.url_keys_path is not set" in capsys.readouterr().err
