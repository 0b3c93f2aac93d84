"""A server with subscriptions in this process, for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.subscriptions.driving import Subscribed

OpenSubscribed = Callable[..., Subscribed]


@pytest.fixture
def open_server() -> Iterator[OpenSubscribed]:
    """Makes servers; the arguments are those of ``Subscribed``."""
    opened: list[Subscribed] = []

    def open_one(*args: object, **sections: object) -> Subscribed:
        opened.append(Subscribed(*args, **sections))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for server in opened:
        server.close()


@pytest.fixture
def server(open_server: OpenSubscribed) -> Subscribed:
    return open_server()
