"""Which URLs are refused (sections 6.2 and 12.8): every way into a private network, by name."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from durable_streams.protocol.subscriptions.errors import WebhookUrlRejected
from durable_streams.protocol.subscriptions.targets import WebhookPolicy, check_address, parse_target

STRICT = WebhookPolicy()
DEVELOPMENT = WebhookPolicy(allow_localhost=True)


def is_refused(url: str, policy: WebhookPolicy = STRICT) -> bool:
    try:
        parse_target(url, policy)
    except WebhookUrlRejected:
        return True
    return False


@pytest.mark.parametrize(
    "url",
    [
        "https://worker.example/hooks",
        "https://worker.example",
        "https://worker.example:8443/a?b=c&d",
        "https://WORKER.example./",
        "https://93.184.216.34/",
        "https://[2606:2800:220:1:248:1893:25c8:1946]:8443/",
        "https://1.example/",
        "https://10.example/",
    ],
)
def test_r15_public_https_urls_are_allowed(url: str) -> None:
    parse_target(url, STRICT)
    parse_target(url, DEVELOPMENT)


def test_r15_the_target_is_what_the_url_says() -> None:
    target = parse_target("https://WORKER.example./a%20b?c=d", STRICT)
    assert (target.host, target.port, target.path) == ("worker.example", 443, "/a%20b?c=d")
    assert parse_target("https://worker.example?x", STRICT).path == "/?x"
    assert parse_target("https://93.184.216.34:8443", STRICT).address == ip_address("93.184.216.34")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "worker.example",
        "//worker.example",
        "ftp://worker.example/",
        "file:///etc/passwd",
        "gopher://worker.example/",
        "javascript:alert(1)",
        "https:///hooks",
        "https://:443/",
        "https://worker.example:0/",
        "https://worker.example:65536/",
        "https://worker.example:https/",
        "https://worker.example:/",
        "https://user@worker.example/",
        "https://user:secret@worker.example/",
        "https://worker.example/#fragment",
        "https://worker.example/#",
        "https://worker.example/a b",
        "https://worker.example/\r\nX: y",
        "https://worker.example\\@10.0.0.1/",
        "https://worker\N{FULLWIDTH FULL STOP}example/",
        "https://-worker.example/",
        "https://worker..example/",
        "https://%31%30.0.0.1/",
        "https://[::1/",
        "https://[fe80::1%25eth0]/",
        "https://[not-an-address]/",
        "https://1.2.3.4.5/",
        "https://256.1.1.1.1/",
        "https://93.184.216.256/",
        "https://0x/",
        "https://worker.0x7f/",
        "https://worker.example/" + "a" * 2048,
    ],
)
def test_r15_malformed_urls_are_refused(url: str) -> None:
    assert is_refused(url)
    assert is_refused(url, DEVELOPMENT)


@pytest.mark.parametrize("host", ["worker.example", "93.184.216.34", "10.0.0.1", "[::1]"])
def test_r85_plain_http_is_for_localhost_alone(host: str) -> None:
    assert is_refused(f"http://{host}/")
    assert is_refused(f"http://{host}/", DEVELOPMENT)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.53", "LOCALHOST", "127.1"])
def test_r85_localhost_is_allowed_in_development_alone(host: str) -> None:
    for scheme in ("http", "https"):
        assert is_refused(f"{scheme}://{host}:8080/hooks")
        assert not is_refused(f"{scheme}://{host}:8080/hooks", DEVELOPMENT)


LOCAL_ADDRESSES = [
    "10.0.0.1",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.1.1",
    "100.64.0.1",
    "0.0.0.0",
    "0.1.2.3",
    "192.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "fe80::1",
    "fc00::1",
    "fd00::1",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "100::1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::10.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::10.0.0.1",
    "2002:0a00:0001::1",
    "2001:0:0a00:1::1",
    "fd00:ec2::254",
]


@pytest.mark.parametrize("address", [*LOCAL_ADDRESSES, "127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_r86_addresses_that_are_not_public_are_refused(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    assert is_refused(f"https://{host}/")
    with pytest.raises(WebhookUrlRejected, match="is not public"):
        check_address(parse_target("https://worker.example/", STRICT), ip_address(address), STRICT)


@pytest.mark.parametrize("address", LOCAL_ADDRESSES)
def test_r86_development_does_not_open_the_network(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    assert is_refused(f"https://{host}/", DEVELOPMENT)
    for url in ("https://worker.example/", "http://localhost/"):
        target = parse_target(url, DEVELOPMENT)
        with pytest.raises(WebhookUrlRejected):
            check_address(target, ip_address(address), DEVELOPMENT)


@pytest.mark.parametrize(
    "host",
    [
        "167772161",  # 10.0.0.1 as one decimal number
        "0x0a000001",
        "0xA.0.0.1",
        "012.0.0.1",
        "012.0x0.1",
        "10.1",
        "10.0.1",
        "0x7f.1",
        "0177.0.0.1",
        "2130706433",
        "017700000001",
        "0xa9fea9fe",
        "2852039166",
        "0",
    ],
)
def test_r86_every_notation_of_an_ipv4_address_is_understood(host: str) -> None:
    assert is_refused(f"https://{host}/")


@pytest.mark.parametrize(
    ("host", "address"), [("0x5db8d822", "93.184.216.34"), ("93.12113954", "93.184.216.34")]
)
def test_r86_a_public_address_in_another_notation_is_still_public(host: str, address: str) -> None:
    assert parse_target(f"https://{host}/", STRICT).address == ip_address(address)


@pytest.mark.parametrize("name", ["localhost", "localhost.", "a.localhost", "LocalHost"])
def test_r86_names_of_this_machine_are_refused(name: str) -> None:
    assert is_refused(f"https://{name}/")


def test_r86_a_name_may_not_lead_to_this_machine_in_development_either() -> None:
    """DNS rebinding: only `localhost` itself may have a loopback address."""
    target = parse_target("https://worker.example/", DEVELOPMENT)
    with pytest.raises(WebhookUrlRejected):
        check_address(target, ip_address("127.0.0.1"), DEVELOPMENT)
    check_address(parse_target("http://localhost/", DEVELOPMENT), ip_address("::1"), DEVELOPMENT)


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[fd00:ec2::254]", "[::ffff:169.254.169.254]", "0xa9fea9fe"]
)
def test_r87_metadata_services_are_refused(host: str) -> None:
    assert is_refused(f"https://{host}/latest/meta-data/", DEVELOPMENT)


def test_r88_a_list_of_hosts_allows_no_other() -> None:
    policy = WebhookPolicy(hosts=("worker.example", "*.hooks.example"))
    assert not is_refused("https://worker.example/", policy)
    assert not is_refused("https://a.b.hooks.example/", policy)
    for host in (
        "hooks.example",
        "evilhooks.example",
        "other.example",
        "worker.example.evil",
        "93.184.216.34",
    ):
        assert is_refused(f"https://{host}/", policy)


def test_r88_a_network_that_an_operator_allows_is_reached() -> None:
    policy = WebhookPolicy(networks=(ip_network("10.1.0.0/16"), ip_network("fd00:1::/32")))
    assert not is_refused("https://10.1.2.3/", policy)
    assert not is_refused("https://[::ffff:10.1.2.3]/", policy)
    assert not is_refused("https://[fd00:1::5]/", policy)
    assert is_refused("https://10.2.0.1/", policy)
    check_address(parse_target("https://worker.internal/", policy), ip_address("10.1.2.3"), policy)
    # A public wrapping of a private address is judged by both.
    assert is_refused("https://[64:ff9b::10.2.0.1]/", policy)
    assert not is_refused("https://[64:ff9b::93.184.216.34]/", policy)
