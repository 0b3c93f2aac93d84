"""One delivery against a receiver that does everything wrong that a receiver, or an attacker, can do."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_network

import pytest

from durable_streams.protocol.subscriptions.errors import WebhookUrlRejected
from durable_streams.protocol.subscriptions.targets import WebhookPolicy
from durable_streams.subscriptions.webhooks import client as webhook
from durable_streams.subscriptions.webhooks.client import ANSWER_BYTES_MAX, DeliveryFailed, WebhookClient
from durable_streams.subscriptions.webhooks.resolving import CACHE_S, HostNotFound, Resolver, look_up
from tests.clock import Clock
from tests.servers import TlsFiles, free_port
from tests.subscriptions.receiver import DONE, Delivery, Receiver, answer, raw_answer

LOCAL = WebhookPolicy(allow_localhost=True)
INTERNAL = WebhookPolicy(networks=(ip_network("127.0.0.1/32"),))
"""An operator who lets webhooks reach one address of his own."""
TIMEOUT_S = 20.0
CERTIFICATE = "(?i)certificate"


@pytest.fixture
def client() -> Iterator[WebhookClient]:
    client = WebhookClient(LOCAL)
    yield client
    client.close()


def post(client: WebhookClient, url: str, body: bytes = b"{}", timeout_s: float = TIMEOUT_S) -> bool:
    return client.post(url, body, "t=1,kid=k,ed25519=s", timeout_s).done


def test_r53_the_request_is_a_post_of_exactly_these_bytes(client: WebhookClient) -> None:
    with Receiver() as receiver:
        body = '{"stream": "\N{EURO SIGN}"}'.encode()
        assert post(client, receiver.url + "?a=b", body) is True
        sent = receiver.next()
        assert sent.line == "POST /hook?a=b HTTP/1.1"
        assert sent.body == body
        assert sent.headers["host"] == f"127.0.0.1:{receiver.port}"
        assert sent.headers["content-type"] == "application/json"
        assert sent.headers["webhook-signature"] == "t=1,kid=k,ed25519=s"
        assert sent.headers["accept-encoding"] == "identity"
        assert sent.headers["user-agent"].startswith("durable-streams-server/")


@pytest.mark.parametrize(
    ("said", "done"),
    [
        (DONE, True),
        (answer({"done": True}, "201 Created"), True),
        (answer({"done": False}), False),
        (answer({"done": "true"}), False),
        (answer({"done": 1}), False),
        (answer({}), False),
        (answer([True]), False),
        (answer(None, "204 No Content"), False),
        (raw_answer(b""), False),
        (raw_answer(b"done"), False),
        (raw_answer(b"{"), False),
        (raw_answer(b'{"done": true}x'), False),
        (raw_answer(b"\xff\xfe"), False),
        (raw_answer(b"[" * 60_000), False),
        (raw_answer(b'{"done": true}', "200 OK", "Content-Encoding: gzip"), True),
    ],
)
def test_r56_only_a_2xx_that_says_done_is_done(client: WebhookClient, said: bytes, done: bool) -> None:
    with Receiver(said) as receiver:
        assert post(client, receiver.url) is done


@pytest.mark.parametrize(
    "status",
    [
        "300 Multiple Choices",
        "304 Not Modified",
        "400 Bad Request",
        "404 Not Found",
        "410 Gone",
        "429 Too Many Requests",
        "500 Internal Server Error",
        "599 Strange",
    ],
)
def test_d15_any_other_status_is_a_failure_and_is_named(client: WebhookClient, status: str) -> None:
    with (
        Receiver(answer({"done": True}, status)) as receiver,
        pytest.raises(DeliveryFailed, match=status[:3]),
    ):
        post(client, receiver.url)


def test_d15_redirects_are_not_followed(client: WebhookClient) -> None:
    """The way around every check of the URL: a public receiver that sends the server into its own network."""
    with Receiver() as inner:
        for status in (
            "301 Moved Permanently",
            "302 Found",
            "307 Temporary Redirect",
            "308 Permanent Redirect",
        ):
            said = answer(None, status, f"Location: {inner.url}")
            with Receiver(said) as receiver, pytest.raises(DeliveryFailed, match=status[:3]):
                post(client, receiver.url)
        assert inner.all_so_far() == []


def test_d15_an_answer_is_read_to_its_bound_only(client: WebhookClient) -> None:
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (ANSWER_BYTES_MAX + 1)
    at_bound = b" " * (ANSWER_BYTES_MAX - len(b'{"done":true}')) + b'{"done":true}'
    with Receiver(endless) as receiver:
        assert post(client, receiver.url) is False
    with Receiver(raw_answer(at_bound)) as receiver:
        assert post(client, receiver.url) is True
    with Receiver(raw_answer(b" " + at_bound)) as receiver:
        assert post(client, receiver.url) is False


def hold(delivery: Delivery) -> bytes | None:
    """Until the client gives up."""
    delivery.socket.recv(1)
    return None


def drip(delivery: Delivery) -> bytes | None:
    """A byte at a time, so that no single read ever waits for long."""
    gone = threading.Event()
    delivery.socket.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while not gone.wait(0.02):
        delivery.socket.sendall(b"a")
    return None


@pytest.mark.parametrize("behaviour", [hold, drip])
def test_d15_a_slow_receiver_is_given_up(
    client: WebhookClient, behaviour: Callable[[Delivery], bytes | None]
) -> None:
    with (
        Receiver(behaviour) as receiver,
        pytest.raises(DeliveryFailed, match=r"no answer within 0\.3 s|broke off"),
    ):
        post(client, receiver.url, timeout_s=0.3)


def reset(delivery: Delivery) -> bytes | None:
    delivery.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return None


@pytest.mark.parametrize(
    "behaviour",
    [
        lambda delivery: None,
        reset,
        lambda delivery: b"SSH-2.0-OpenSSH\r\n",
        lambda delivery: b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        lambda delivery: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        lambda delivery: b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000,
    ],
    ids=["close", "reset", "no HTTP", "short body", "broken chunk", "long header"],
)
def test_a_delivery_that_breaks_off_is_a_failure(
    client: WebhookClient, behaviour: Callable[[Delivery], bytes | None]
) -> None:
    def and_close(delivery: Delivery) -> bytes | None:
        said = behaviour(delivery)
        if said is not None:
            delivery.socket.sendall(said)
        return None

    with Receiver(and_close) as receiver, pytest.raises(DeliveryFailed, match="broke off"):
        post(client, receiver.url)


def test_nobody_listens(client: WebhookClient) -> None:
    port = free_port()
    with pytest.raises(DeliveryFailed, match=rf"no connection to 127\.0\.0\.1:{port}"):
        post(client, f"http://127.0.0.1:{port}/")


def test_connections_are_used_again(client: WebhookClient) -> None:
    with Receiver() as receiver:
        for _ in range(5):
            post(client, receiver.url)
        assert receiver.connections == 1


@pytest.mark.parametrize(
    "said", [answer({}, "500 Internal Server Error"), answer(None, "302 Found", "Location: /")]
)
def test_a_failure_that_was_read_to_its_end_leaves_the_connection_usable(
    client: WebhookClient, said: bytes
) -> None:
    with Receiver(said) as receiver:
        for _ in range(2):
            with pytest.raises(DeliveryFailed):
                post(client, receiver.url)
        receiver.behaviour = lambda delivery: DONE
        assert post(client, receiver.url) is True


def test_a_receiver_that_closes_idle_connections_gets_another(client: WebhookClient) -> None:
    with Receiver(answer({"done": True}, "200 OK", "Connection: close")) as receiver:
        for _ in range(3):
            assert post(client, receiver.url) is True
        assert receiver.connections == 3


# -- addresses ---------------------------------------------------------------------------------------------------------


class Names:
    """A name server whose answers a test changes; ``asked`` counts the look-ups."""

    def __init__(self, **answers: Sequence[str]) -> None:
        self.answers = {name.replace("_", "."): list(found) for name, found in answers.items()}
        self.asked = 0

    def __call__(self, host: str) -> Sequence[str]:
        self.asked += 1
        if host not in self.answers:
            raise HostNotFound(host, "Name or service not known", is_final=True)
        return self.answers[host]


@pytest.fixture
def secure(tls_files: TlsFiles) -> Iterator[tuple[WebhookClient, Names, Clock]]:
    """A client that may reach 127.0.0.1 over https, with names of its own."""
    names, clock = Names(localhost=["127.0.0.1"]), Clock(0.0)
    client = WebhookClient(INTERNAL, tls_files.authority, Resolver(INTERNAL, names, clock))
    yield client, names, clock
    client.close()


def https(tls_files: TlsFiles) -> Receiver:
    return Receiver(tls=(str(tls_files.certificate), str(tls_files.key)))


def test_r86_the_checked_address_is_connected_to_and_the_name_is_kept(
    tls_files: TlsFiles, secure: tuple[WebhookClient, Names, Clock]
) -> None:
    client, names, _ = secure
    with https(tls_files) as receiver:
        # The certificate is for `127.0.0.1` and `localhost`; the second name leads to the same address.
        names.answers["worker.example"] = ["127.0.0.1"]
        policy_url = f"https://worker.example:{receiver.port}/hook"
        with pytest.raises(DeliveryFailed, match=CERTIFICATE):
            post(client, policy_url)
        assert post(client, receiver.url) is True
        assert receiver.next().headers["host"] == f"127.0.0.1:{receiver.port}"


def test_r86_every_address_of_a_name_must_be_allowed(secure: tuple[WebhookClient, Names, Clock]) -> None:
    client, names, _ = secure
    for addresses in (
        ["10.0.0.1"],
        ["93.184.216.34", "10.0.0.1"],
        ["::1"],
        ["::ffff:169.254.169.254"],
        ["fe80::1"],
    ):
        names.answers["worker.example"] = addresses
        client._resolver._cache.clear()
        with pytest.raises(WebhookUrlRejected, match="is not public"):
            client.check("https://worker.example/hook")
        with pytest.raises(DeliveryFailed, match="is not public"):
            post(client, "https://worker.example/hook")


def test_r86_a_name_that_changes_its_address_after_the_check_is_refused(
    secure: tuple[WebhookClient, Names, Clock],
) -> None:
    """DNS rebinding: public when the subscription is created, private when the webhook is sent."""
    client, names, clock = secure
    names.answers["worker.example"] = ["93.184.216.34"]
    client.check("https://worker.example/hook")
    names.answers["worker.example"] = ["10.0.0.1"]
    clock.now += CACHE_S
    with pytest.raises(DeliveryFailed, match=r"10\.0\.0\.1 is not public"):
        post(client, "https://worker.example/hook")


def test_r86_a_name_is_looked_up_once_for_a_delivery(secure: tuple[WebhookClient, Names, Clock]) -> None:
    """A second look-up, by the HTTP library, would be one that nobody has checked."""
    client, names, _ = secure
    names.answers["worker.example"] = ["127.0.0.1"]
    port = free_port()
    with pytest.raises(DeliveryFailed, match="no connection"):
        post(client, f"https://worker.example:{port}/")
    assert names.asked == 1


def test_r86_a_resolver_that_is_down_refuses_no_subscription_but_an_unknown_name_does(
    secure: tuple[WebhookClient, Names, Clock],
) -> None:
    client = secure[0]
    with pytest.raises(WebhookUrlRejected, match="was not found"):
        client.check("https://missing.example/")

    def is_down(host: str) -> Sequence[str]:
        raise HostNotFound(host, "Temporary failure in name resolution", is_final=False)

    client._resolver = Resolver(INTERNAL, is_down)
    client.check("https://worker.example/")
    with pytest.raises(DeliveryFailed, match="Temporary failure"):
        post(client, "https://worker.example/")


def test_r86_the_next_address_is_tried_when_one_takes_no_connection(
    tls_files: TlsFiles, secure: tuple[WebhookClient, Names, Clock]
) -> None:
    client, names, _ = secure
    policy = WebhookPolicy(networks=(ip_network("127.0.0.0/8"),))
    client._policy, client._resolver = policy, Resolver(policy, names)
    with https(tls_files) as receiver:
        # Nobody listens at 127.0.0.9.
        names.answers["worker.example"] = ["127.0.0.9", "127.0.0.1"]
        with pytest.raises(DeliveryFailed, match=CERTIFICATE):
            post(client, f"https://worker.example:{receiver.port}/")
        assert receiver.connections == 1


def test_r86_proxy_variables_are_not_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    client = WebhookClient(LOCAL)
    with Receiver() as receiver:
        assert post(client, receiver.url) is True
    client.close()


def test_r93_a_certificate_that_nobody_vouches_for_is_refused(tls_files: TlsFiles) -> None:
    client = WebhookClient(INTERNAL)
    with https(tls_files) as receiver, pytest.raises(DeliveryFailed, match=CERTIFICATE):
        post(client, receiver.url)
    client.close()


def test_the_systems_resolver_is_asked() -> None:
    assert "127.0.0.1" in look_up("127.0.0.1")
    with pytest.raises(HostNotFound):
        look_up("no.such.name.invalid")


def test_look_ups_are_kept_for_a_moment_and_in_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    from durable_streams.protocol.subscriptions.targets import parse_target
    from durable_streams.subscriptions.webhooks import resolving

    names, clock = Names(), Clock(0.0)
    names.answers = {f"w{number}.example": ["93.184.216.34"] for number in range(20)}
    resolver = Resolver(WebhookPolicy(), names, clock)
    monkeypatch.setattr(resolving, "CACHE_NAMES_MAX", 10)
    target = parse_target("https://w1.example/", WebhookPolicy())
    for _ in range(3):
        resolver.addresses(target)
    assert names.asked == 1
    for number in range(20):
        resolver.addresses(parse_target(f"https://w{number}.example/", WebhookPolicy()))
    assert len(resolver._cache) <= 10
    assert webhook.CONNECTIONS_PER_HOST > 0
