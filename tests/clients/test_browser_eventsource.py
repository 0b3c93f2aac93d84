"""A page with nothing but the browser's EventSource follows a stream over several connections without loss.

The EventSource is an npm package that follows the browsers' specification, so no browser has to be installed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.clients.source_text import SEED, text_of_many_scripts
from tests.clients.test_official_clients import first_difference, run_client
from tests.servers import ROOT, Server, running_server, usual_params

CONNECTIONS_MIN = 3
CHARACTERS = 40_000

pytestmark = [pytest.mark.server, pytest.mark.node]


@pytest.fixture(scope="module", params=usual_params())
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"DS_SERVER__SSE_RECONNECT_INTERVAL_SECS": "1", **request.param.environ}
    with running_server(tmp_path_factory.mktemp("eventsource"), settings) as running:
        yield running


def test_an_eventsource_that_is_cut_off_goes_on_where_it_was(
    server: Server, node: str, tmp_path: Path
) -> None:
    source, result = tmp_path / "source", tmp_path / "result"
    source.write_bytes(text_of_many_scripts()[:CHARACTERS].encode())
    url = f"{server.url}/v1/stream/eventsource-{uuid4().hex}"
    program = str(ROOT / "tests" / "clients" / "browser_eventsource.mjs")
    finished = run_client([node, program, url, str(source), str(result), str(CONNECTIONS_MIN)], server)
    expected, received = source.read_bytes(), result.read_bytes()
    assert received == expected, f"seed {SEED}, first difference at {first_difference(received, expected)}"
    seen = json.loads(finished.stdout.splitlines()[-1])
    assert seen["connections"] >= CONNECTIONS_MIN
    assert seen["resumedFrom"][0] is None
    assert all(seen["resumedFrom"][1:]), "a reconnection carried no Last-Event-ID"
