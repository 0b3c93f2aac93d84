"""Keys from a URL: kept, fetched again, rotated; and what happens while the URL gives nothing usable."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import gevent
import pytest
from gevent.event import Event

from durable_streams.access.json_web_tokens import ClaimRules, JsonWebTokens, JwkSetUrl
from durable_streams.access.json_web_tokens.fetching import Fetcher, FetchFailed
from durable_streams.access.json_web_tokens.keys import SET_BYTES_MAX
from durable_streams.protocol.errors import Unavailable
from tests.access.signing import Issuer, issuer, jwk_set
from tests.web.driving import PATIENCE_S

URL = "https://login.example/keys"
CACHE_S, RETRY_S = 300.0, 10.0


class Place:
    """Where keys are fetched from, and the time."""

    def __init__(self, *issuers: Issuer) -> None:
        self.text = jwk_set(*issuers)
        self.fetches = 0
        self.is_down = False
        self.open = Event()
        self.open.set()
        self.now = 1000.0

    def __call__(self, url: str) -> bytes:
        assert url == URL
        self.fetches += 1
        self.open.wait()
        if self.is_down:
            raise FetchFailed("it is down")
        return self.text

    def source(self) -> JwkSetUrl:
        return JwkSetUrl(URL, cache_s=CACHE_S, retry_s=RETRY_S, fetch=self, clock=lambda: self.now)

    def tokens(self) -> JsonWebTokens:
        return JsonWebTokens(self.source(), ClaimRules(streams_claim=""))


OLD, NEW = issuer("ES256", "old"), issuer("ES256", "new")


def valid(tokens: JsonWebTokens, signer: Issuer) -> bool:
    return tokens.grant_of(signer.token(scope="read")) is not None


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    with gevent.Timeout(PATIENCE_S):
        yield


def test_keys_are_fetched_once_and_kept() -> None:
    place = Place(OLD)
    tokens = place.tokens()
    assert place.fetches == 0, "nothing is fetched before somebody asks"
    assert all(valid(tokens, OLD) for _ in range(10))
    assert place.fetches == 1


def test_a_new_key_is_fetched_as_soon_as_a_token_names_it() -> None:
    place = Place(OLD)
    tokens = place.tokens()
    assert valid(tokens, OLD)
    place.text = jwk_set(OLD, NEW)
    place.now += RETRY_S
    assert valid(tokens, NEW)
    assert place.fetches == 2


def test_unknown_keys_cause_one_fetch_in_an_interval() -> None:
    place = Place(OLD)
    tokens = place.tokens()
    assert valid(tokens, OLD)
    for _ in range(3):
        place.now += RETRY_S
        before = place.fetches
        for number in range(100):
            assert tokens.grant_of(OLD.token({"kid": f"unknown {number}"})) is None
        assert place.fetches == before + 1


def test_a_wrong_signature_by_a_known_key_causes_no_fetch() -> None:
    place = Place(OLD)
    tokens = place.tokens()
    assert valid(tokens, OLD)
    place.now += RETRY_S
    assert not valid(tokens, Issuer("ES256", "old"))
    assert place.fetches == 1


def test_tokens_that_name_no_key_find_a_new_one_too() -> None:
    place = Place(OLD)
    tokens = place.tokens()
    nameless = Issuer("ES256")
    assert not valid(tokens, nameless)
    place.text = jwk_set(nameless)
    place.now += RETRY_S
    assert valid(tokens, nameless)


def test_requests_at_once_wait_for_one_fetch() -> None:
    place = Place(OLD)
    place.open.clear()
    tokens = place.tokens()
    waiting = [gevent.spawn(valid, tokens, OLD) for _ in range(20)]
    gevent.sleep(0)
    place.open.set()
    assert all(each.get() for each in waiting)
    assert place.fetches == 1


def test_old_keys_are_fetched_again_and_nobody_waits_for_it() -> None:
    place = Place(OLD)
    source = place.source()
    first = source.current()
    place.text = jwk_set(NEW)
    place.open.clear()
    place.now += CACHE_S
    assert source.current() is first
    gevent.sleep(0)
    assert place.fetches == 2
    assert source.current() is first
    place.open.set()
    source.look_again()
    assert source.current() is not first
    assert place.fetches == 2


def test_a_key_that_has_gone_verifies_nothing_any_more() -> None:
    place = Place(OLD)
    tokens = place.tokens()
    token = OLD.token(scope="read")
    assert tokens.grant_of(token) is not None
    place.text = jwk_set(NEW)
    place.now += CACHE_S
    tokens._source.current()
    tokens._source.look_again()
    assert tokens.grant_of(token) is None


def test_the_same_answer_keeps_what_was_verified() -> None:
    place = Place(OLD)
    source = place.source()
    first = source.current()
    place.now += CACHE_S
    source.look_again()
    assert source.current() is first
    assert place.fetches == 2


@pytest.mark.parametrize("text", [b"", b"{}", b"x", b'{"keys": []}', jwk_set(issuer("HS256", "secret"))])
def test_an_unusable_answer_leaves_the_keys_of_before(text: bytes, caplog: pytest.LogCaptureFixture) -> None:
    place = Place(OLD)
    tokens = place.tokens()
    assert valid(tokens, OLD)
    place.text = text
    for _ in range(3):
        place.now += CACHE_S
        tokens._source.look_again()
        assert valid(tokens, OLD)
    assert caplog.text.count("stay in force") == 1


def test_without_any_keys_requests_are_to_come_again() -> None:
    place = Place(OLD)
    place.is_down = True
    tokens = place.tokens()
    for _ in range(10):
        with pytest.raises(Unavailable, match="temporarily"):
            valid(tokens, OLD)
    assert place.fetches == 1
    place.is_down = False
    place.now += RETRY_S
    assert valid(tokens, OLD)


# -- over HTTP -----------------------------------------------------------------------------------------------------


class Answers(BaseHTTPRequestHandler):
    """/200 has keys; every other path is a mistake that a server can make."""

    def do_GET(self) -> None:
        status, body = {
            "/200": (200, jwk_set(OLD)),
            "/301": (301, b""),
            "/500": (500, jwk_set(OLD)),
            "/long": (200, b"x" * (SET_BYTES_MAX + 1)),
        }[self.path]
        self.send_response(status)
        if status == 301:
            self.send_header("Location", "/200")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_answer_of_a_server_is_taken(url: str) -> None:
    tokens = JsonWebTokens(JwkSetUrl(f"{url}/200", cache_s=60, retry_s=1), ClaimRules(streams_claim=""))
    assert valid(tokens, OLD)


@pytest.mark.parametrize(
    ("path", "reason"), [("301", "status 301"), ("500", "status 500"), ("long", "longer than")]
)
def test_other_answers_are_failures(url: str, path: str, reason: str) -> None:
    with pytest.raises(FetchFailed, match=reason):
        Fetcher()(f"{url}/{path}")


def test_a_server_that_is_not_there_is_a_failure(url: str) -> None:
    with pytest.raises(FetchFailed, match="refused"):
        Fetcher()("http://127.0.0.1:1/keys")
