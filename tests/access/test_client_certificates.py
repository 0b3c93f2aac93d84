"""The name of a client in its certificate."""

from __future__ import annotations

from typing import Any

import pytest

from durable_streams.access.client_certificates import name_client, name_in
from durable_streams.web.exchange import Exchange

CN = ((("organizationName", "o"),), (("commonName", "ann"),))


@pytest.mark.parametrize(
    ("certificate", "name"),
    [
        ({"subject": CN}, "ann"),
        ({"subject": CN, "subjectAltName": (("DNS", "x"),)}, "ann"),
        ({"subject": (), "subjectAltName": (("URI", "spiffe://a/b"), ("DNS", "x"))}, "spiffe://a/b"),
        ({"subject": ()}, None),
        ({}, None),
    ],
)
def test_the_common_name_or_the_first_other(certificate: dict[str, Any], name: str | None) -> None:
    assert name_in(certificate) == name


class Shown:
    def __init__(self, certificate: dict[str, Any] | None) -> None:
        self._certificate = certificate

    def getpeercert(self) -> dict[str, Any] | None:
        return self._certificate


@pytest.mark.parametrize(
    ("socket", "principal"),
    [(Shown({"subject": CN}), "ann"), (Shown(None), None), (object(), None), (None, None)],
)
def test_it_is_the_principal(socket: object, principal: str | None) -> None:
    exchange = Exchange({"gunicorn.socket": socket})
    name_client(exchange)
    assert exchange.principal == principal
