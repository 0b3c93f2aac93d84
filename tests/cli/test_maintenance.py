"""compact, verify, backup and restore, run as an operator runs them: beside a server that works, or after it."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from durable_streams.startup import ExitCode
from durable_streams.storage.on_disk.room import RESERVE_NAME
from tests.crash.checking import check_shared, check_writer
from tests.crash.client import Client, read_all
from tests.crash.test_kill import MODES
from tests.crash.writers import Shared, Writer
from tests.servers import ROOT, Server, running_server, server_environ

pytestmark = pytest.mark.server

SCRIPT = (sys.executable, "-m", "durable_streams")
ACTIONS = 150
JSON_TYPE = {"Content-Type": "application/json"}
LARGE = b"large " * 20_000

every_mode = pytest.mark.parametrize("mode", MODES)


class Site:
    """A data directory, the commands that look after it, and a client that knows what must be in it."""

    def __init__(self, folder: Path, mode: str) -> None:
        self.folder = folder
        self.settings: Mapping[str, str] = MODES[mode]
        self.data = folder / "data"
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        self._rng = random.Random(seed)
        self._shared = [Shared("shared/text", is_json=False), Shared("shared/json", is_json=True)]
        self.writer = Writer(1, self._rng, self._shared)

    def command(self, *arguments: str | Path, data: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run `durable-streams-server` with arguments, on this site's data or on other data."""
        return subprocess.run(
            [*SCRIPT, *map(str, arguments)],
            cwd=ROOT,
            env=server_environ(self.settings, data or self.data),
            capture_output=True,
            text=True,
            timeout=180,
        )

    def fill(self, server: Server) -> None:
        """Streams of all kinds, among them one that is large."""
        with Client(server) as client:
            assert client.send("PUT", "large", {"Content-Type": "text/plain"}, LARGE).status == 201
            for stream in self._shared:
                client.send("PUT", stream.name, {"Content-Type": stream.content_type})
            for _ in range(ACTIONS):
                self.writer.act(client)

    def check(self, server: Server) -> None:
        """The server has all of it; raises Violation."""
        with Client(server) as client:
            assert read_all(client, "large").content == LARGE
            check_writer(client, self.writer, self._rng)
            for stream in self._shared:
                check_shared(client, stream, [self.writer], self._rng)

    def filled(self) -> Site:
        """The same after a server has filled it and stopped."""
        with running_server(self.folder, self.settings) as server:
            self.fill(server)
        return self


@pytest.fixture
def site(mode: str, tmp_path: Path) -> Site:
    return Site(tmp_path, mode)


def files_with_data(site: Site) -> list[Path]:
    """All but the reserve, which holds room and no data."""
    return sorted(path for path in site.data.rglob("*") if path.is_file() and path.name != RESERVE_NAME)


# -- verify --------------------------------------------------------------------------------------------------


@every_mode
def test_verify_finds_nothing_wrong_with_what_a_server_wrote(site: Site) -> None:
    with running_server(site.folder, site.settings) as server:
        site.fill(server)
        beside = site.command("verify")
    after = site.command("verify")
    for ended in (beside, after):
        assert (ended.returncode, ended.stderr) == (ExitCode.OK, "")
        assert "verified" in ended.stdout
        assert ended.stdout.count("\n") == 1
    with running_server(site.folder, site.settings) as server:
        site.check(server)


@every_mode
def test_verify_names_the_file_and_position_of_a_flipped_bit(site: Site) -> None:
    site.filled()
    flipped = 0
    for path in files_with_data(site):
        if path.suffix == ".index" or path.stat().st_size < 1000:
            continue
        flipped += 1
        whole = path.read_bytes()
        position = len(whole) // 3
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        ended = site.command("verify")
        path.write_bytes(whole)
        assert ended.returncode == ExitCode.DAMAGED == 65, (path, ended)
        assert path.name in ended.stderr
        numbers = [int(word.strip(",:;.")) for word in ended.stderr.split() if word.strip(",:;.").isdigit()]
        assert [number for number in numbers if abs(number - position) <= 70_000], ended.stderr
    assert flipped
    assert site.command("verify").returncode == ExitCode.OK


# -- backup and restore --------------------------------------------------------------------------------------


@every_mode
def test_a_restored_backup_gives_the_same_answers(site: Site) -> None:
    with running_server(site.folder, site.settings) as server:
        site.fill(server)
        ended = site.command("backup", site.folder / "copy")
        assert (ended.returncode, ended.stderr) == (ExitCode.OK, "")
        # What comes later is not in it.
        server.request("PUT", "/v1/stream/later")
    assert site.command("verify", site.folder / "copy").returncode == ExitCode.OK
    shutil.rmtree(site.data)
    # A disk of its own has this at its top.
    (site.data / "lost+found").mkdir(parents=True)
    ended = site.command("restore", site.folder / "copy")
    assert (ended.returncode, ended.stderr) == (ExitCode.OK, "")
    assert "restored" in ended.stdout
    with running_server(site.folder, site.settings) as server:
        site.check(server)
        assert server.request("HEAD", "/v1/stream/later").status == 404
        site.check(server)


class SteadyWriter:
    """Appends the numbers from 0 on, in turns to two streams, until it is told to stop."""

    names = ("numbers/even", "numbers/odd")

    def __init__(self, server: Server) -> None:
        self._server = server
        self._stopping = False
        self._enough = threading.Condition()
        self.answered = 0
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> SteadyWriter:
        with Client(self._server) as client:
            for name in self.names:
                assert client.send("PUT", name, JSON_TYPE).status == 201
        self._thread.start()
        self.await_answers(100)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._thread.join()

    def await_answers(self, count: int) -> None:
        with self._enough:
            assert self._enough.wait_for(lambda: self.answered >= count, 30)

    def _run(self) -> None:
        with Client(self._server) as client:
            for number in itertools.count():
                assert send_number(client, number) == 200
                with self._enough:
                    self.answered = number + 1
                    self._enough.notify()
                if self._stopping:
                    return


def send_number(client: Client, number: int) -> int:
    """The status of the answer."""
    name = SteadyWriter.names[number % 2]
    producer = {"Producer-Id": "w", "Producer-Epoch": "0", "Producer-Seq": str(number // 2)}
    return client.send("POST", name, JSON_TYPE | producer, json.dumps(number).encode()).status


@every_mode
def test_a_backup_is_verified_and_restored_without_naming_its_mode(site: Site) -> None:
    site.filled()
    settings, backup = site.settings, site.folder / "backup"
    assert site.command("backup", backup).returncode == ExitCode.OK
    site.settings = {}
    verified = site.command("verify", backup)
    assert verified.returncode == ExitCode.OK, verified.stderr
    assert "(storage.mode = " in verified.stdout
    shutil.rmtree(site.data)
    restored = site.command("restore", backup)
    assert restored.returncode == ExitCode.OK, restored.stderr
    with running_server(site.folder, settings) as server:
        site.check(server)


@every_mode
def test_a_backup_taken_while_appends_go_on_is_of_one_moment(site: Site) -> None:
    with running_server(site.folder, site.settings) as server, SteadyWriter(server) as writer:
        before = writer.answered
        ended = site.command("backup", site.folder / "copy")
        after = writer.answered
        assert (ended.returncode, ended.stderr) == (ExitCode.OK, "")
        writer.await_answers(after + 1)
    shutil.rmtree(site.data)
    # A disk of its own has this at its top.
    (site.data / "lost+found").mkdir(parents=True)
    assert site.command("restore", site.folder / "copy").returncode == ExitCode.OK
    with running_server(site.folder, site.settings) as server, Client(server) as client:
        even, odd = (read_all(client, name).content for name in SteadyWriter.names)
        found = sorted([*even, *odd])  # type: ignore[type-var]
        # Numbers were sent one after the other: at any one moment there was no gap, in whichever stream.
        assert found == list(range(len(found)))
        assert list(even) == found[::2]
        assert list(odd) == found[1::2]
        # One more may have been on its way.
        assert before <= len(found) <= after + 1
        assert send_number(client, len(found) - 1) == 204
        assert send_number(client, len(found)) == 200


@every_mode
def test_nothing_is_written_over(site: Site) -> None:
    site.filled()
    occupied = site.folder / "occupied"
    occupied.mkdir()
    (occupied / "file").write_text("keep me")
    assert site.command("backup", site.folder / "copy").returncode == ExitCode.OK
    for ended in (site.command("backup", occupied), site.command("restore", site.folder / "copy")):
        assert ended.returncode == ExitCode.NOT_EMPTY == 73
        assert "is not empty; nothing was written" in ended.stderr
        assert ended.stderr.count("\n") == 1
    assert [path.name for path in occupied.iterdir()] == ["file"]
    with running_server(site.folder, site.settings) as server:
        site.check(server)


@every_mode
def test_a_damaged_backup_is_not_restored(site: Site) -> None:
    site.filled()
    copy = site.folder / "copy"
    assert site.command("backup", copy).returncode == ExitCode.OK
    largest = max((path for path in copy.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 3] ^= 1
    largest.write_bytes(content)
    ended = site.command("restore", copy, data=site.folder / "elsewhere")
    assert ended.returncode == ExitCode.DAMAGED
    assert largest.name in ended.stderr


# -- compact -------------------------------------------------------------------------------------------------


@every_mode
def test_compact_frees_space_and_keeps_every_answer(site: Site) -> None:
    with running_server(site.folder, site.settings) as server:
        site.fill(server)
        with Client(server) as client:
            client.send("PUT", "garbage", {"Content-Type": "text/plain"})
            for _ in range(20):
                client.send("POST", "garbage", {"Content-Type": "text/plain"}, LARGE)
            client.send("DELETE", "garbage")
    ended = site.command("compact")
    assert (ended.returncode, ended.stderr) == (ExitCode.OK, "")
    held = sum(path.stat().st_size for path in files_with_data(site))
    assert held < 10 * len(LARGE)
    assert site.command("verify").returncode == ExitCode.OK
    with running_server(site.folder, site.settings) as server:
        site.check(server)


# -- who may ---------------------------------------------------------------------------------------------------


@every_mode
def test_compact_beside_a_server_is_refused(site: Site) -> None:
    with running_server(site.folder, site.settings):
        ended = site.command("compact")
    assert ended.returncode == ExitCode.IN_USE == 75
    assert str(site.data) in ended.stderr
    assert ended.stderr.count("\n") == 1


@every_mode
@pytest.mark.parametrize("command", ["compact", "verify", "backup"])
def test_without_data_there_is_nothing_to_do(site: Site, command: str) -> None:
    arguments = [site.folder / "copy"] if command == "backup" else []
    ended = site.command(command, *arguments)
    assert ended.returncode == ExitCode.NO_DATA == 66
    assert str(site.data) in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not site.data.exists()
    assert not (site.folder / "copy").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"DS_STORAGE__MODE": "memory"},
        {"DS_STORAGE__MODE": "acid", "DS_STORAGE__ACID_BACKEND": "in-memory"},
    ],
    ids=["memory", "acid in-memory"],
)
def test_modes_that_keep_nothing_have_no_maintenance(settings: dict[str, str], tmp_path: Path) -> None:
    site = Site(tmp_path, "file-fast")
    site.settings = settings
    ended = site.command("verify")
    assert ended.returncode == ExitCode.CONFIGURATION
    assert "keeps nothing on disk" in ended.stderr


@every_mode
def test_a_second_server_on_the_same_directory_is_refused(site: Site) -> None:
    with running_server(site.folder, site.settings | {"DS_SERVER__PORT": "0"}) as server:
        second = subprocess.run(
            SCRIPT,
            cwd=ROOT,
            env=server_environ(site.settings | {"DS_SERVER__PORT": "0"}, site.data),
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert second.returncode == ExitCode.WORKER_NOT_STARTED == 3
        (line,) = second.stderr.splitlines()
        assert "[open_storage]" in line
        assert f"{site.data}" in line
        assert "in use" in line
        # The first one has not noticed.
        assert server.request("PUT", "/v1/stream/still-served").status == 201
