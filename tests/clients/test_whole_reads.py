"""The official clients read 20 MB back whole, in one call that is not live, from every storage mode."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.clients.test_official_clients import run_client
from tests.servers import ROOT, SERVER_KINDS, Server, ServerKind, running_server

BYTES = 20_000_000
APPENDS = 4
CONTENT_TYPES = {
    "text": "text/plain; charset=utf-8",
    "bytes": "application/octet-stream",
    "json": "application/json",
}
MODES = ("memory", "file-fast", "file-durable", "acid", "postgres-3-workers")
KINDS = [pytest.param(kind, id=kind.name) for kind in SERVER_KINDS if kind.name in MODES]

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    kind: ServerKind = request.param
    settings = {"DS_LIMITS__MAX_MESSAGES_PER_REQUEST": "0", **kind.environ}
    with running_server(tmp_path_factory.mktemp("whole"), settings) as running:
        yield running


def appends_of(kind: str) -> list[bytes]:
    """What is appended; JSON as arrays of compact messages."""
    size = BYTES // APPENDS
    if kind == "json":
        # The JavaScript client puts the messages of an answer on its stack, which holds about 100,000.
        message = {"text": "x" * 990, "number": 1}
        count = size // len(json.dumps(message))
        return [json.dumps([message] * count, separators=(",", ":")).encode()] * APPENDS
    line = "naïve façade, поток 流\n".encode()
    return [(line * (size // len(line) + 1))] * APPENDS


def whole_of(kind: str) -> bytes:
    appends = appends_of(kind)
    return b"[" + b",".join(body[1:-1] for body in appends) + b"]" if kind == "json" else b"".join(appends)


def written(server: Server, kind: str) -> str:
    path = f"/v1/stream/whole/{uuid4().hex}"
    headers = {"Content-Type": CONTENT_TYPES[kind]}
    assert server.request("PUT", path, headers=headers).status == 201
    for body in appends_of(kind):
        assert server.request("POST", path, body, headers).status == 204
    return path


@pytest.mark.parametrize("kind", CONTENT_TYPES)
def test_the_python_client_reads_all_of_it(
    kind: str, server: Server, python_client: Path, tmp_path: Path
) -> None:
    _check((str(python_client), str(ROOT / "tests" / "clients" / "whole_read.py")), kind, server, tmp_path)


@pytest.mark.node
@pytest.mark.parametrize("kind", CONTENT_TYPES)
def test_the_javascript_client_reads_all_of_it(kind: str, server: Server, node: str, tmp_path: Path) -> None:
    _check((node, str(ROOT / "tests" / "clients" / "whole_read.mjs")), kind, server, tmp_path)


def _check(program: tuple[str, ...], kind: str, server: Server, folder: Path) -> None:
    path, result = written(server, kind), folder / "result"
    run_client([*program, kind, f"{server.url}{path}", str(result)], server)
    received, expected = result.read_bytes(), whole_of(kind)
    # Not compared by pytest, which would look for the differences of 20 MB.
    assert len(received) == len(expected)
    assert (received == expected) is True
    assert server.request("DELETE", path).status == 204
