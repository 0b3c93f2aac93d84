"""A sync fails under a running server: what the disk holds is unknown, so it writes no more, and everybody is told."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.crash.client import Client, read_all
from tests.servers import GUNICORN, Answer, running_server

pytestmark = pytest.mark.server

BREAKING = (*GUNICORN[:-1], "tests.crash.breaking_server:app")
TEXT = {"Content-Type": "text/plain"}
WRITERS = 8


def produced(seq: int) -> dict[str, str]:
    return TEXT | {"Producer-Id": "p", "Producer-Epoch": "0", "Producer-Seq": str(seq)}


@pytest.mark.parametrize("mode", [pytest.param("file-durable", marks=pytest.mark.long), "acid"])
def test_after_a_failed_sync_writes_are_refused_reads_go_on_and_a_restart_settles_it(
    mode: str, tmp_path: Path
) -> None:
    settings = {"DS_STORAGE__MODE": mode}
    with running_server(tmp_path, settings, command=BREAKING) as server, Client(server) as client:
        assert client.send("PUT", "s", TEXT).status == 201
        assert client.send("POST", "s", produced(0), b"kept,").status == 200
        for number in range(WRITERS):
            assert client.send("PUT", f"other/{number}", TEXT, b"kept").status == 201
        tail = read_all(client, "s").tail
        answers: list[Answer] = []

        def wait() -> None:
            with Client(server) as waiting:
                answers.append(waiting.send("GET", "s", query=f"?offset={tail}&live=long-poll"))

        reader = threading.Thread(target=wait)
        reader.start()
        (tmp_path / "broken").touch()
        doubtful = client.send("POST", "s", produced(1), b"doubtful,")
        assert doubtful.status == 500
        assert "retry-after" not in doubtful.headers
        # A disk that works again is no reason to believe it.
        (tmp_path / "broken").unlink()
        for number in range(WRITERS):
            refused = client.send("POST", f"other/{number}", TEXT, b"refused")
            assert (refused.status, refused.headers["retry-after"]) == (503, "1")
            assert read_all(client, f"other/{number}").content == b"kept"
        assert client.send("POST", "s", produced(1), b"doubtful,").status == 503
        assert read_all(client, "s").content == b"kept,"
        assert server.request("GET", "/readyz").status == 503
        assert server.request("GET", "/healthz").status == 200
        assert "has failed and refuses all further writes" in server.log
        assert "broken on purpose" in server.log
        assert server.terminate() == 0
        reader.join()
        # The reader that waited was shown nothing of it.
        assert [(answer.status, answer.body) for answer in answers] == [(204, b"")]
    with running_server(tmp_path, settings) as server, Client(server) as client:
        assert client.send("POST", "s", produced(1), b"doubtful,").status in (200, 204)
        assert read_all(client, "s").content == b"kept,doubtful,"
        for number in range(WRITERS):
            assert read_all(client, f"other/{number}").content == b"kept"
