"""A changed byte of one stream on the disk: that stream is answered 500, and nobody else notices."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from durable_streams.startup import ExitCode
from tests.crash.client import Client, read_all
from tests.crash.test_kill import MODES
from tests.engines.driving import flip
from tests.server.sockets import Exchange
from tests.servers import ROOT, running_server, server_environ

pytestmark = pytest.mark.server

BYTES = {"Content-Type": "application/octet-stream"}
SMALL, LARGE = random.Random(1).randbytes(1500), random.Random(2).randbytes(300_000)


def command(name: str, settings: dict[str, str], data: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "durable_streams", name],
        cwd=ROOT,
        env=server_environ(settings, data),
        capture_output=True,
        text=True,
        timeout=180,
    )


@pytest.mark.parametrize("payload", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("mode", MODES)
def test_a_damaged_stream_is_answered_500_and_all_others_are_served(
    mode: str, payload: bytes, tmp_path: Path
) -> None:
    settings, data = MODES[mode], tmp_path / "data"
    with running_server(tmp_path, settings) as server, Client(server) as client:
        assert client.send("PUT", "damaged", BYTES, payload).status == 201
        assert client.send("PUT", "whole", BYTES, payload[::-1]).status == 201
    # Nothing but what is current is left then.
    assert command("compact", settings, data).returncode == 0
    place = payload[700:764]
    (file,) = [path for path in data.rglob("*") if path.is_file() and place in path.read_bytes()]
    flip(file, file.read_bytes().index(place))
    with running_server(tmp_path, settings) as server, Client(server) as client:
        for query in ("?offset=-1", "?offset=-1&live=long-poll"):
            answer = client.send("GET", "damaged", query=query)
            assert (answer.status, json.loads(answer.body)["code"]) == (500, "INTERNAL_ERROR")
            assert payload[:100] not in answer.body
            assert str(data).encode() not in answer.body
        assert client.send("POST", "whole", BYTES, b"more").status == 204
        assert read_all(client, "whole").content == payload[::-1] + b"more"
        assert client.send("PUT", "new", BYTES, b"new").status == 201
        with Exchange(server.port) as reader:
            reader.send_request("GET", "/v1/stream/damaged?offset=-1&live=sse")
            assert payload[:100] not in reader.read_until(b"\r\n\r\n")
        assert client.send("GET", "new", query="?offset=-1").body == b"new"
        assert server.request("GET", "/readyz").status == 200
    # What was wrong is for the operator, and not for the client.
    (told,) = {line for line in server.log.splitlines() if "ds.operation=read" in line and "=500" in line}
    assert re.search("error\\.message=.*stream 'damaged'.*checksum", told), told
    verified = command("verify", settings, data)
    assert verified.returncode == ExitCode.DAMAGED
    assert "damaged" in verified.stderr
    assert "'whole'" not in verified.stderr
