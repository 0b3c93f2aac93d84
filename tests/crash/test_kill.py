"""kill -9 of the whole server at a random moment, round after round, on one data directory.

Between the rounds nothing is repaired, so that damage would add up. What the clients know is the only witness:
every acknowledged change is there once and in order, any other wholly or not at all.

`make test` does one round a mode. CRASH_ROUNDS sets how many `make test-long` does, CRASH_SEED repeats the choices of a
run (not its timing).
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest

from tests.crash.checking import check_shared, check_writer
from tests.crash.client import Client
from tests.crash.writers import Load, Shared, Violation, Writer, expect
from tests.servers import GUNICORN, ROOT, Server, running_server, server_environ

pytestmark = pytest.mark.server

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "20"))
BUSY = (*GUNICORN[:-1], "tests.crash.busy_server:app")
WRITERS = 10
ANSWERS_MAX = 800
"""The kill comes after a random number of answers up to this one, so a slow machine gets no smaller load."""
LOAD_SECONDS_MAX = 60.0
ROUND_SECONDS_MAX = 30
MODES = {
    "file-fast": {"DS_STORAGE__MODE": "file-fast"},
    "file-durable": {"DS_STORAGE__MODE": "file-durable"},
    # Several shards, so that forks and their sources lie in different ones.
    "acid": {"DS_STORAGE__MODE": "acid", "DS_STORAGE__ACID_SHARD_COUNT": "4"},
}


class Trial:
    """One mode's rounds: its directory, its clients, and how a round goes."""

    def __init__(self, folder: Path, settings: dict[str, str], seed: int) -> None:
        self.rng = random.Random(seed)
        self._folder = folder
        self._settings = settings | {"RUST_LOG": "warn,durable_streams.request=off,durable_streams=info"}
        self._shared = [Shared(f"shared/{number}", is_json=number % 2 == 1) for number in range(4)]
        self._writers = [
            Writer(number, random.Random(self.rng.random()), self._shared) for number in range(WRITERS)
        ]
        self._start_seconds = 1.0

    def prepare(self) -> None:
        """Create the streams that every writer writes to."""
        with running_server(self._folder, self._settings) as server, Client(server) as client:
            for stream in self._shared:
                answer = client.send("PUT", stream.name, {"Content-Type": stream.content_type})
                expect(answer, (201,), f"creating {stream.name}")

    def round(self) -> int:
        """Start, check, load, kill; how many steps were acknowledged. Raises Violation."""
        if self.rng.random() < 0.25:
            self._kill_while_it_starts()
        began = time.monotonic()
        command = self.rng.choice((GUNICORN, BUSY))
        with running_server(self._folder, self._settings, command=command) as server:
            self._start_seconds = time.monotonic() - began
            self.check(server)
            return self._load_and_kill(server)

    def finish(self) -> None:
        """Check twice: the probes and repetitions of the first time must have changed nothing."""
        with running_server(self._folder, self._settings) as server:
            self.check(server)
            self.check(server)

    def check(self, server: Server) -> None:
        """Everything that the clients know, against what the server shows."""
        with Client(server) as client:
            for writer in self._writers:
                check_writer(client, writer, self.rng)
            for stream in self._shared:
                check_shared(client, stream, self._writers, self.rng)

    def _load_and_kill(self, server: Server) -> int:
        load = Load(partial(Client, server), self._writers, self._shared)
        try:
            load.await_answers(self.rng.randint(1, ANSWERS_MAX), LOAD_SECONDS_MAX)
        finally:
            # Now and then it is asked to stop instead: a clean end must not lose anything either.
            if self.rng.random() < 0.1:
                server.terminate()
            kill(server.process)
            answered = load.join()
        if load.broken:
            raise load.broken[0]
        return answered

    def _kill_while_it_starts(self) -> None:
        process = subprocess.Popen(
            BUSY,
            cwd=ROOT,
            env=server_environ({"DS_SERVER__PORT": "0"} | self._settings, self._folder / "data"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(self._start_seconds * self.rng.uniform(0.3, 1.0))
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End the arbiter and its worker at once, as they are."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture
def seed() -> int:
    chosen = int(os.environ.get("CRASH_SEED") or random.randrange(2**32))
    print(f"CRASH_SEED={chosen}")
    return chosen


class KilledServer:
    """A class of tests for each mode, so that modes may run side by side."""

    mode: str

    @pytest.mark.timeout(60 + ROUNDS * ROUND_SECONDS_MAX)
    @pytest.mark.parametrize(
        "rounds", [pytest.param(1, id="once"), pytest.param(ROUNDS, id="often", marks=pytest.mark.long)]
    )
    def test_a_killed_server_has_kept_its_word(self, rounds: int, seed: int, tmp_path: Path) -> None:
        trial = Trial(tmp_path, MODES[self.mode], seed)
        trial.prepare()
        answered = 0
        for number in range(rounds):
            try:
                answered += trial.round()
            except Violation as exc:
                log = (tmp_path / "server.log").read_text(errors="replace")
                pytest.fail(f"{self.mode}, round {number}, seed {seed}: {exc}\n{log[-3000:]}")
        trial.finish()
        print(f"{self.mode}: {rounds} rounds, {answered} acknowledged steps")


class TestFileFast(KilledServer):
    mode = "file-fast"


class TestFileDurable(KilledServer):
    mode = "file-durable"


class TestAcid(KilledServer):
    mode = "acid"
