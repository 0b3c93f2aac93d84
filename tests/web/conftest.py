"""A server in this process, over memory, for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.web.driving import Server

OpenServer = Callable[..., Server]


@pytest.fixture
def open_server() -> Iterator[OpenServer]:
    """Makes servers; the arguments are those of ``Server``."""
    opened: list[Server] = []

    def open_one(*args: object, **sections: dict[str, object]) -> Server:
        opened.append(Server(*args, **sections))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for server in opened:
        server.close()


@pytest.fixture
def server(open_server: OpenServer) -> Server:
    return open_server()
