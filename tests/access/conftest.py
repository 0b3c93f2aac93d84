"""The servers of tests/web, with a file of tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from durable_streams.access import AccessGate
from durable_streams.access.token_file import changing, new_token
from tests.web.conftest import OpenServer, open_server
from tests.web.driving import Server

__all__ = ["open_server"]

MakeToken = Callable[..., str]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


@pytest.fixture
def make_token(path: Path) -> MakeToken:
    """A token for scopes and patterns, in the file."""

    def make(scopes: str, *streams: str, name: str = "", expires_at: float | None = None) -> str:
        token, record = new_token(
            name or f"{scopes} {streams}", scopes.split(), list(streams or ["**"]), expires_at
        )
        with changing(path) as records:
            records.append(record)
        return token

    return make


@pytest.fixture
def open_guarded(open_server: OpenServer, path: Path) -> Callable[..., Server]:
    """A server that reads the file."""
    return lambda **sections: open_server(
        **{"auth": {"mode": "tokens", "tokens_path": str(path)}, **sections}
    )


def gates_of(server: Server) -> tuple[AccessGate, ...]:
    """The gates that the server's own access control has made."""
    begin = server.flask.before_request_funcs[None][0]
    return begin.__closure__[0].cell_contents.gates  # type: ignore[index,no-any-return]
