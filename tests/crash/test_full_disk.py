"""The disk of a running server becomes full, and has room again."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.crash.client import Client, read_all
from tests.crash.small_disk import MEBIBYTE, SmallDisk, small_disk
from tests.crash.test_kill import MODES, kill
from tests.servers import GUNICORN, Answer, Server, running_server

pytestmark = pytest.mark.server

DISK_MEBIBYTES = 24
STREAMS = [f"stream {number}" for number in range(10)]
DEADLINE_S = 60.0
PIECE = b"p" * 65536
PIECES_MAX = 100
"""More than these fit on no disk of this size."""
TEXT = {"Content-Type": "text/plain"}


class Scene:
    """A server on a small disk, and one stream of one producer on it."""

    def __init__(self, server: Server, client: Client, disk: SmallDisk) -> None:
        self.server, self.client, self.disk = server, client, disk
        self.content = b""
        self.seq = -1
        assert client.send("PUT", "stream", TEXT).status == 201
        assert client.send("PUT", "other", TEXT, b"other").status == 201
        assert self.append(PIECE).status == 200

    def append(self, body: bytes) -> Answer:
        """The producer's next batch; remembered when it was accepted."""
        headers = TEXT | {
            "Producer-Id": "p",
            "Producer-Epoch": "0",
            "Producer-Seq": str(self.seq + 1),
        }
        answer = self.client.send("POST", "stream", headers, body)
        if answer.status == 200:
            self.seq += 1
            self.content += body
        return answer

    def append_until_full(self) -> Answer:
        """The first refusal. What lies between a full disk and a refusal is the storage's own business."""
        for _ in range(PIECES_MAX):
            answer = self.append(PIECE)
            if answer.status != 200:
                return answer
        raise AssertionError("the full disk was not noticed")

    def check_nothing_changed(self) -> None:
        seen = read_all(self.client, "stream")
        assert seen.content == self.content
        assert read_all(self.client, "other").content == b"other"


def settings(mode: str, disk: SmallDisk) -> dict[str, str]:
    """All of the disk may be used."""
    return MODES[mode] | {"DS_STORAGE__DATA_DIR": str(disk.path / "data"), "DS_STORAGE__MIN_FREE_BYTES": "0"}


@pytest.fixture(params=MODES)
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    with small_disk(tmp_path, DISK_MEBIBYTES) as disk:
        chosen = settings(request.param, disk)
        with (
            running_server(tmp_path, chosen, command=(*disk.prefix, *GUNICORN)) as server,
            Client(server) as client,
        ):
            yield Scene(server, client, disk)


def test_a_write_that_finds_no_room_is_507_and_changes_nothing(scene: Scene) -> None:
    scene.disk.fill()
    answer = scene.append_until_full()
    assert answer.status == 507
    assert answer.headers["content-type"] == "application/problem+json"
    problem = json.loads(answer.body)
    assert (problem["type"], problem["status"]) == ("/errors/insufficient-storage", 507)
    scene.check_nothing_changed()
    assert scene.append(PIECE).status == 507
    assert scene.client.send("PUT", "new", TEXT, PIECE).status == 507
    assert scene.client.send("GET", "new", query="?offset=-1").status == 404
    assert scene.server.request("GET", "/readyz").status == 503
    scene.check_nothing_changed()


def test_service_resumes_when_there_is_room(scene: Scene) -> None:
    scene.disk.fill()
    assert scene.append_until_full().status == 507
    scene.disk.make_room()
    assert scene.append(PIECE).status == 200
    # The batch that was refused has left no producer state behind: this was the same one.
    scene.check_nothing_changed()
    assert scene.client.send("POST", "other", TEXT | {"Stream-Closed": "true"}).status == 204


def test_a_waiting_reader_is_not_disturbed_by_a_full_disk(scene: Scene) -> None:
    tail = read_all(scene.client, "other").tail
    answers: list[Answer] = []

    def wait() -> None:
        with Client(scene.server) as client:
            answers.append(client.send("GET", "other", query=f"?offset={tail}&live=long-poll"))

    reader = threading.Thread(target=wait)
    reader.start()
    scene.disk.fill()
    assert scene.append_until_full().status == 507
    scene.disk.make_room()
    assert scene.client.send("POST", "other", TEXT, b" and more").status == 204
    reader.join()
    assert [(answer.status, answer.body) for answer in answers] == [(200, b" and more")]


def test_a_small_write_finds_room_where_a_large_one_does_not(scene: Scene) -> None:
    scene.disk.fill(spare_bytes=2 * MEBIBYTE)
    answers: dict[int, Answer] = {}

    def append(size: int) -> None:
        with Client(scene.server) as client:
            answers[size] = client.send("POST", "other", TEXT, b"s" * size)

    large = 6 * MEBIBYTE
    threads = [threading.Thread(target=append, args=(size,)) for size in (10, large, 11, 12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {size: answer.status for size, answer in answers.items()} == {
        large: 507,
        10: 204,
        11: 204,
        12: 204,
    }
    assert len(read_all(scene.client, "other").content) == len(b"other") + 33


@pytest.mark.parametrize("restarts", [False, True], ids=["goes on", "is killed"])
@pytest.mark.parametrize("mode", MODES)
def test_a_full_disk_is_left_by_deleting(mode: str, restarts: bool, tmp_path: Path) -> None:
    """Ten streams fill it, nine go, and the tenth is appended to; it is told that writes are refused, and no more."""
    with small_disk(tmp_path, 40) as disk:
        chosen, command = settings(mode, disk), (*disk.prefix, *GUNICORN)
        with running_server(tmp_path, chosen, command=command) as server, Client(server) as client:
            fill_with_streams(client)
            wait_for_readiness(server, 503)
            if not restarts:
                check_left_by_deleting(server, client)
                return
            kill(server.process)
        with (
            running_server(tmp_path, chosen, command=command, ready_path="/healthz") as server,
            Client(server) as client,
        ):
            check_left_by_deleting(server, client)


def fill_with_streams(client: Client) -> None:
    for name in STREAMS:
        assert client.send("PUT", name, TEXT).status == 201
    statuses: list[int] = []
    while statuses.count(507) < len(STREAMS):
        name = STREAMS[len(statuses) % len(STREAMS)]
        statuses.append(client.send("POST", name, TEXT, PIECE).status)
        assert len(statuses) < 1000, "the disk does not become full"


def wait_for_readiness(server: Server, status: int) -> None:
    until = monotonic() + DEADLINE_S
    while server.request("GET", "/readyz").status != status:
        assert monotonic() < until, server.log
        sleep(0.05)


def check_left_by_deleting(server: Server, client: Client) -> None:
    kept = read_all(client, STREAMS[0]).content
    for name in STREAMS[1:]:
        assert client.send("DELETE", name).status == 204
    # A server that was restarted learns from the first refusal that the disk is full.
    until = monotonic() + DEADLINE_S
    while client.send("POST", STREAMS[0], TEXT, PIECE).status != 204:
        assert monotonic() < until, server.log
        sleep(0.05)
    wait_for_readiness(server, 200)
    assert read_all(client, STREAMS[0]).content == kept + PIECE
    log = server.log
    assert "Traceback" not in log
    assert log.count("writes are refused, but for deletes and closes") <= 1


@pytest.mark.parametrize("has_room", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_a_server_that_was_killed_on_a_full_disk_has_kept_its_word(
    mode: str, has_room: bool, tmp_path: Path
) -> None:
    with small_disk(tmp_path, DISK_MEBIBYTES) as disk:
        chosen = settings(mode, disk)
        command = (*disk.prefix, *GUNICORN)
        with running_server(tmp_path, chosen, command=command) as server, Client(server) as client:
            scene = Scene(server, client, disk)
            disk.fill()
            assert scene.append_until_full().status == 507
            kill(server.process)
        if has_room:
            disk.make_room()
        with (
            running_server(tmp_path, chosen, command=command, ready_path="/healthz") as server,
            Client(server) as client,
        ):
            scene.server, scene.client = server, client
            scene.check_nothing_changed()
            if not has_room:
                disk.make_room()
            assert scene.append(PIECE).status == 200
