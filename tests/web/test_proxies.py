"""What is believed of whom: client address, scheme and host behind proxies, in both families of headers."""

from __future__ import annotations

from typing import Any

import pytest

from durable_streams.app import create_app
from durable_streams.config import Config
from durable_streams.config.traffic import ProxySettings
from durable_streams.web.proxies import ProxyHeaders, address_in
from tests.web.conftest import OpenServer
from tests.web.driving import TEXT

TRUSTED = ("10.0.0.0/8", "fd00::/8")


def seen(
    headers: dict[str, str], peer: str = "10.0.0.1", family: str = "x-forwarded", public: str = ""
) -> Any:
    """Address, scheme, host, name and port as the application gets them."""
    found: dict[str, Any] = {}

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        found.update(environ)
        return []

    settings = ProxySettings.model_validate({"trusted": TRUSTED, "headers": family})
    environ = {
        "REMOTE_ADDR": peer,
        "wsgi.url_scheme": "http",
        "HTTP_HOST": "inside:4437",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "4437",
        **{"HTTP_" + name.upper().replace("-", "_"): value for name, value in headers.items()},
    }
    ProxyHeaders(application, settings, public)(environ, None)
    return found


@pytest.mark.parametrize(
    ("chain", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("203.0.113.9:51234", "203.0.113.9"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("6.6.6.6, 203.0.113.9", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9, 10.9.9.9", "203.0.113.9"),
        ("203.0.113.9, fd00::2, 10.9.9.9", "203.0.113.9"),
        ("10.1.1.1", "10.1.1.1"),
        ("unknown", "10.0.0.1"),
        ("203.0.113.9, garbage", "10.0.0.1"),
        ("", "10.0.0.1"),
        (", ".join(["10.1.1.1"] * 1000), "10.1.1.1"),
    ],
)
def test_the_client_is_the_last_address_that_is_no_trusted_proxy(chain: str, address: str) -> None:
    assert seen({"X-Forwarded-For": chain})["REMOTE_ADDR"] == address
    quoted = ", ".join(f'for="{part.strip()}"' for part in chain.split(","))
    assert seen({"Forwarded": quoted}, family="forwarded")["REMOTE_ADDR"] == address


@pytest.mark.parametrize("peer", ["192.0.2.1", "11.0.0.1", "2001:db8::2", "garbage"])
def test_from_anyone_else_everything_is_ignored_and_logged_once(
    peer: str, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil"}
    found = seen(headers, peer)
    assert (found["REMOTE_ADDR"], found["wsgi.url_scheme"], found["HTTP_HOST"]) == (
        peer,
        "http",
        "inside:4437",
    )
    assert f"what {peer} says of its client is ignored" in caplog.text


def test_it_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    app = ProxyHeaders(lambda environ, start: [], ProxySettings(trusted=TRUSTED), "")
    for _ in range(5):
        app({"REMOTE_ADDR": "192.0.2.1", "HTTP_X_FORWARDED_FOR": "6.6.6.6"}, None)
    assert caplog.text.count("is ignored") == 1


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1", "fd00::9", ""])
def test_trusted_peers_are_those_of_the_networks_and_of_a_unix_socket(peer: str) -> None:
    assert seen({"X-Forwarded-For": "203.0.113.9"}, peer)["REMOTE_ADDR"] == "203.0.113.9"


@pytest.mark.parametrize(
    ("headers", "family"),
    [
        (
            {
                "X-Forwarded-For": "203.0.113.9",
                "X-Forwarded-Proto": "https",
                "X-Forwarded-Host": "s.example:8443",
            },
            "x-forwarded",
        ),
        ({"Forwarded": 'For="203.0.113.9:1";Proto=https;Host="s.example:8443"'}, "forwarded"),
        (
            {
                "Forwarded": 'for=6.6.6.6;host=evil, for=203.0.113.9; proto=HTTPS; host="s.example:8443", for=10.2.2.2'
            },
            "forwarded",
        ),
    ],
)
def test_scheme_and_host_are_those_of_the_client(headers: dict[str, str], family: str) -> None:
    found = seen(headers, family=family)
    assert found["wsgi.url_scheme"] == "https"
    assert found["HTTP_HOST"] == "s.example:8443"
    assert (found["SERVER_NAME"], found["SERVER_PORT"]) == ("s.example", "8443")


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-Proto": "ftp"},
        {"X-Forwarded-Proto": ""},
        {"X-Forwarded-Host": "a/b"},
        {"X-Forwarded-Host": "a b"},
        {"X-Forwarded-Host": "a@b"},
    ],
)
def test_what_cannot_be_a_scheme_or_a_host_changes_nothing(headers: dict[str, str]) -> None:
    found = seen(headers)
    assert (found["wsgi.url_scheme"], found["HTTP_HOST"]) == ("http", "inside:4437")


def test_only_the_chosen_family_counts() -> None:
    assert seen({"Forwarded": "for=6.6.6.6"})["REMOTE_ADDR"] == "10.0.0.1"
    assert seen({"X-Forwarded-For": "6.6.6.6"}, family="forwarded")["REMOTE_ADDR"] == "10.0.0.1"


@pytest.mark.parametrize("text", ['"', 'for="', "for", "for==", ";;;", ",,,", 'for="\\', "=" * 1000])
def test_broken_elements_name_nobody(text: str) -> None:
    assert seen({"Forwarded": text}, family="forwarded")["REMOTE_ADDR"] == "10.0.0.1"


def test_the_public_url_stands_above_all_of_it() -> None:
    headers = {"X-Forwarded-Host": "other.example", "X-Forwarded-Proto": "http"}
    found = seen(headers, public="https://streams.example")
    assert (found["wsgi.url_scheme"], found["HTTP_HOST"], found["SERVER_PORT"]) == (
        "https",
        "streams.example",
        "443",
    )


@pytest.mark.parametrize("text", ["", "a", "1.2.3", "1.2.3.4.5", "[::1", "::g", "1.2.3.4, 5.6.7.8"])
def test_no_address(text: str) -> None:
    assert address_in(text) in ("", "::1")


def test_location_callbacks_rates_and_log_go_by_it(open_server: OpenServer) -> None:
    server = open_server(
        proxy={"trusted": list(TRUSTED)},
        rates={"rules": [{"limit": "1/hour", "operations": ["read"]}]},
        subscriptions={"allow_localhost_webhooks": True},
    )

    def ask(method: str, target: str, client: str, body: bytes = b"", **headers: str) -> Any:
        sent = {"X-Forwarded-For": client, "X-Forwarded-Proto": "https", "X-Forwarded-Host": "s.example"}
        return server.request(method, target, body, {**sent, **headers}, REMOTE_ADDR="10.0.0.1")

    made = ask("PUT", "a", "203.0.113.1", b"", **TEXT)
    assert made.headers["Location"] == "https://s.example/v1/stream/a"
    assert [ask("GET", "a", f"203.0.113.{number}").status_int for number in (1, 2, 1)] == [200, 200, 429]
    config = b'{"type": "webhook", "pattern": "x/*", "webhook": {"url": "http://127.0.0.1:9/hook"}}'
    shown = ask("PUT", "__ds/subscriptions/s", "203.0.113.1", config, **{"Content-Type": "application/json"})
    assert "https://s.example/v1/stream/__ds/jwks.json" in shown.text


def test_nothing_is_in_the_way_where_nothing_is_set() -> None:
    config = Config.model_validate({"log": {"rust_log": "off"}})
    assert not isinstance(create_app(config).wsgi_app, ProxyHeaders)
