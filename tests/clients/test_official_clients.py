"""The official clients carry a real text of several hundred KB through the server, in every way of reading
there is, over http and https, and it must come out byte for byte.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.clients.source_text import SEED, as_lines, json_messages, text_of_many_scripts
from tests.servers import ROOT, SERVER_KINDS, USUAL_KIND, Server, ServerKind, TlsFiles, running_server

RUN_SECONDS_MAX = 280
# Far less than the text, so that every client has to follow a page to the next one.
PAGE_BYTES = 65_536

MODES = ("catch-up", "long-poll", "sse")
# TLS ends in the worker, above all storages: https is repeated for the two workers.
PLACES = [("http", kind) for kind in SERVER_KINDS]
PLACES += [("https", kind) for kind in SERVER_KINDS if kind.environ["DS_STORAGE__MODE"] == "memory"]

pytestmark = pytest.mark.server


def place_param(scheme: str, kind: ServerKind) -> Any:
    return pytest.param(
        (scheme, kind),
        id=f"{scheme}-{kind.name}",
        marks=[] if (scheme, kind.name) == ("http", USUAL_KIND) else [pytest.mark.long],
    )


@pytest.fixture(scope="module", params=[place_param(*place) for place in PLACES])
def server(
    request: pytest.FixtureRequest, tls_files: TlsFiles, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    scheme, server_kind = request.param
    settings = {
        "DS_LIMITS__MAX_READ_BYTES": str(PAGE_BYTES),
        "DS_SERVER__LONG_POLL_TIMEOUT_SECS": "5",
        **server_kind.environ,
    }
    tls = tls_files if scheme == "https" else None
    with running_server(tmp_path_factory.mktemp("clients"), settings, tls) as running:
        yield running


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    paths = {"text": folder / "text", "bytes": folder / "text", "json": folder / "messages"}
    paths["text"].write_bytes(text_of_many_scripts().encode())
    paths["json"].write_bytes(as_lines(json_messages()).encode())
    return paths


@pytest.mark.parametrize("kind", ["text", "json"])
@pytest.mark.parametrize("mode", MODES)
def test_the_python_client_carries_a_text_through_a_stream(
    mode: str, kind: str, server: Server, python_client: Path, sources: Mapping[str, Path], tmp_path: Path
) -> None:
    program = (str(python_client), str(ROOT / "tests" / "clients" / "python_client.py"))
    _carry(program, mode, kind, server, sources[kind], tmp_path)


@pytest.mark.node
@pytest.mark.parametrize("kind", ["text", "bytes", "json"])
@pytest.mark.parametrize("mode", MODES)
def test_the_javascript_client_carries_a_text_through_a_stream(
    mode: str, kind: str, server: Server, node: str, sources: Mapping[str, Path], tmp_path: Path
) -> None:
    program = (node, str(ROOT / "tests" / "clients" / "javascript_client.mjs"))
    _carry(program, mode, kind, server, sources[kind], tmp_path)


def _carry(
    program: tuple[str, ...], mode: str, kind: str, server: Server, source: Path, folder: Path
) -> None:
    result = folder / "result"
    url = f"{server.url}/v1/stream/clients/{mode}/{kind}-{uuid4().hex}"
    finished = run_client([*program, mode, kind, url, str(source), str(result)], server)
    expected, received = source.read_bytes(), result.read_bytes()
    if kind == "json":
        assert [json.loads(line) for line in received.splitlines()] == json_messages(), f"seed {SEED}"
        _check_texts(json.loads((folder / "result.texts").read_text(encoding="utf-8")))
    else:
        assert received == expected, (
            f"seed {SEED}, first difference at {first_difference(received, expected)}"
        )
    ends = json.loads(finished.stdout.splitlines()[-1])
    assert ends["offset"] == ends["tail"]


def _check_texts(pages: list[str]) -> None:
    """The text of JSON is handed on by some clients as it is: the messages compact, with a comma alone between them."""
    text = ",".join(page[1:-1] for page in pages)
    assert text in (compact_text(ensure_ascii=False), compact_text(ensure_ascii=True)), f"seed {SEED}"
    assert {page[:1] + page[-1:] for page in pages} == {"[]"}


def compact_text(*, ensure_ascii: bool) -> str:
    """The messages as a client with such a formatter wrote them, without white space between tokens."""
    return ",".join(
        json.dumps(message, ensure_ascii=ensure_ascii, separators=(",", ":")) for message in json_messages()
    )


def run_client(command: list[str], server: Server) -> subprocess.CompletedProcess[str]:
    """Run a client's program, which trusts the server's certificate; show what it said if it fails."""
    trust = {}
    if server.tls is not None:
        trust = {"SSL_CERT_FILE": str(server.tls.authority), "NODE_EXTRA_CA_CERTS": str(server.tls.authority)}
    finished = subprocess.run(
        command, env=os.environ | trust, capture_output=True, text=True, timeout=RUN_SECONDS_MAX
    )
    assert finished.returncode == 0, (
        f"{finished.stdout}\n{finished.stderr}\n--- server:\n{server.log[-4000:]}"
    )
    return finished


def first_difference(received: bytes, expected: bytes) -> int:
    """The position of the first wrong byte; the shorter length if one begins the other."""
    pairs = zip(received, expected, strict=False)
    return next(
        (at for at, (ours, theirs) in enumerate(pairs) if ours != theirs), min(len(received), len(expected))
    )
