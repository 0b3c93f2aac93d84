"""Workers, sessions, the network and the whole database end in the middle of commits, round after round.

The clients and the judge are those of the crash tests of one process: every acknowledged change is there once and in
order, any other wholly or not at all, and what was answered 503 has changed nothing, for the clients send it again.
CRASH_ROUNDS and CRASH_SEED are as in tests/crash/test_kill.py.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import psycopg
import pytest

from tests.crash.checking import check_shared, check_writer
from tests.crash.client import PatientClient
from tests.crash.test_kill import ROUND_SECONDS_MAX, ROUNDS
from tests.crash.writers import Load, Shared, Violation, Writer, expect
from tests.postgres.cluster import Cluster, new_schema, shared_cluster
from tests.postgres.cutting import Cut, CuttingProxy
from tests.servers import Server, running_server

pytestmark = pytest.mark.server

WORKERS = 3
WRITERS = 12
ANSWERS_MAX = 200
"""A fault comes after a random number of answers up to this one."""
LATE_EXPIRY = 1 / 8
"""A worker allows for touches of others that it does not see."""
PATIENCE_S = 120.0
TRIALS = itertools.count()
"""Each works in streams of its own."""
BROKEN_COMMIT = "a session with the database broke during a commit"
COMMITTING = (
    " from pg_stat_activity where application_name = 'durable-streams-server'"
    " and state = 'active' and query like '%ds_commit%'"
)


class Scene:
    """A server of several workers, its database, and all that a fault can take hold of."""

    def __init__(self, server: Server, cluster: Cluster, proxy: CuttingProxy, rng: random.Random) -> None:
        self.server, self.cluster, self.proxy, self.rng = server, cluster, proxy, rng

    def kill_workers(self) -> None:
        """Some of them, or all; the arbiter starts others."""
        pid = self.server.process.pid
        workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for worker in self.rng.sample(workers, self.rng.randint(1, len(workers))):
            os.kill(int(worker), signal.SIGKILL)

    def end_sessions(self) -> None:
        """Those that are in a commit, until a worker has lost one there."""
        before = self.server.log.count(BROKEN_COMMIT)
        until = time.monotonic() + PATIENCE_S
        with psycopg.connect(self.cluster.dsn, autocommit=True) as operator:
            while self.server.log.count(BROKEN_COMMIT) == before:
                operator.execute("select pg_terminate_backend(pid)" + COMMITTING)  # type: ignore[arg-type]
                if time.monotonic() > until:
                    raise Violation("no commit was broken")

    def crash_database(self) -> None:
        """At once, as a power cut of a machine whose disk keeps its word; away for a moment."""
        self.cluster.stop("immediate")
        time.sleep(self.rng.uniform(0, 1))
        self.cluster.start()

    def cut_network(self) -> None:
        """In front of, in the middle of, or after the statement, and in its answer."""
        how = self.rng.choice(list(Cut))
        before = self.server.log.count(BROKEN_COMMIT)
        if not self.proxy.cut(how, PATIENCE_S):
            raise Violation("no commit came through the proxy")
        self.server.await_true(lambda: self.server.log.count(BROKEN_COMMIT) > before)

    def await_rest(self) -> None:
        """Wait until no commit runs: that of a worker that was killed goes on without it."""
        with psycopg.connect(self.cluster.dsn, autocommit=True) as operator:
            while operator.execute("select 1" + COMMITTING).fetchone():  # type: ignore[arg-type]
                time.sleep(0.01)


FAULTS: dict[str, Callable[[Scene], None]] = {
    "killed-workers": Scene.kill_workers,
    "ended-sessions": Scene.end_sessions,
    "crashed-database": Scene.crash_database,
    "cut-network": Scene.cut_network,
}


class Trial:
    """One fault's rounds over one schema; nothing is repaired between them, so damage would add up."""

    def __init__(self, scene: Scene, fault: Callable[[Scene], None]) -> None:
        self.scene, self._fault, self._rng = scene, fault, scene.rng
        self._connect = partial(PatientClient, scene.server)
        trial = next(TRIALS)
        self._shared = [Shared(f"{trial}/{number}", is_json=number % 2 == 1) for number in range(4)]
        self._writers = [
            Writer(number, random.Random(self._rng.random()), self._shared, LATE_EXPIRY)
            for number in range(trial * WRITERS, (trial + 1) * WRITERS)
        ]

    def prepare(self) -> None:
        """Create the streams that every writer writes to."""
        with self._connect() as client:
            for stream in self._shared:
                answer = client.send("PUT", stream.name, {"Content-Type": stream.content_type})
                expect(answer, (201,), f"creating {stream.name}")

    def round(self) -> int:
        """Load, fault, check; how many steps were acknowledged. Raises Violation."""
        load = Load(self._connect, self._writers, self._shared)
        try:
            load.await_answers(self._rng.randint(1, ANSWERS_MAX), PATIENCE_S)
            self._fault(self.scene)
        finally:
            load.stop()
            answered = load.join()
        if load.broken:
            raise load.broken[0]
        self.scene.await_rest()
        self.check()
        return answered

    def check(self) -> None:
        """Everything that the clients know, against what the server shows."""
        with self._connect() as client:
            for writer in self._writers:
                check_writer(client, writer, self._rng)
            for stream in self._shared:
                check_shared(client, stream, self._writers, self._rng)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    seed = int(os.environ.get("CRASH_SEED") or random.randrange(2**32))
    print(f"CRASH_SEED={seed}")
    rng = random.Random(seed)
    cluster = shared_cluster()
    folder = tmp_path_factory.mktemp("crashed")
    with ExitStack() as stack:
        proxy = stack.enter_context(CuttingProxy(cluster.folder, rng))
        settings = {
            "DS_STORAGE__MODE": "postgres",
            "WEB_CONCURRENCY": str(WORKERS),
            "DS_POSTGRES__DSN": f"host=127.0.0.1 port={proxy.port} user=streams dbname=postgres sslmode=disable",
            "DS_POSTGRES__DB_SCHEMA": new_schema(),
            "RUST_LOG": "warn,durable_streams.request=off,durable_streams=info",
        }
        yield Scene(stack.enter_context(running_server(folder, settings)), cluster, proxy, rng)


@pytest.mark.timeout(60 + ROUNDS * ROUND_SECONDS_MAX)
@pytest.mark.parametrize(
    "rounds", [pytest.param(1, id="once"), pytest.param(ROUNDS, id="often", marks=pytest.mark.long)]
)
@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_lost_duplicated_or_torn(fault: str, rounds: int, scene: Scene) -> None:
    trial = Trial(scene, FAULTS[fault])
    trial.prepare()
    answered = 0
    for number in range(rounds):
        try:
            answered += trial.round()
        except Violation as exc:
            pytest.fail(f"{fault}, round {number}: {exc}\n{scene.server.log[-3000:]}")
    # Twice: the probes and repetitions of the first time must have changed nothing.
    trial.check()
    print(f"{fault}: {rounds} rounds, {answered} acknowledged steps")
