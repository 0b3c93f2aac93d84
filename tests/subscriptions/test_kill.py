"""kill -9 of the whole server while subscriptions work, round after round on one data directory.

What the clients know is the only witness: in the end every acknowledged append has been told to both subscriptions, no
generation names two wakes, and no acknowledged cursor has fallen. The receiver misbehaves meanwhile.

`make test` does one round in one mode. CRASH_ROUNDS sets how many `make test-long` does, CRASH_SEED repeats the choices
of a run (not its timing).
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.crash.client import NO_ANSWER, Client
from tests.crash.test_kill import MODES, ROUNDS, kill
from tests.servers import Answer, Server, running_server
from tests.subscriptions.receiver import DONE, Delivery, Receiver, answer, raw_answer

pytestmark = pytest.mark.server

DEVELOPMENT = {
    "DS_SUBSCRIPTIONS__ALLOW_LOCALHOST_WEBHOOKS": "true",
    "DS_SUBSCRIPTIONS__ALLOW_OPEN_CLAIMS": "true",
    "RUST_LOG": "warn,durable_streams.request=off,durable_streams=info",
}
JSON = {"Content-Type": "application/json"}
HOOK, POOL = "__ds/subscriptions/hook", "__ds/subscriptions/pool"
STREAMS_EACH = 5
APPENDERS = 3
APPENDS_MAX = 300
PATIENCE_S = 60.0
MISBEHAVIOUR: list[bytes | None] = [
    None,
    answer(None, "500 Internal Server Error"),
    answer(None, "307 Temporary Redirect", "Location: http://10.0.0.1/hook"),
]
"""What fails; never twice in a row, or the pauses between retries would be what is waited for."""
TAKEN: list[bytes] = [raw_answer(b"not json"), answer({"done": "yes"}), answer({})]
"""A worker that has taken the wake and is silent ever after."""


class Ledger:
    """What clients were told. Its methods are called from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.appended: dict[str, str] = {}
        """Path -> offset of the newest append that was acknowledged."""
        self.appends = 0
        self.acked: dict[str, str] = {}
        """Path -> the cursor of the pull-wake subscription that was acknowledged."""
        self._wakes: dict[tuple[str, int], str] = {}
        self._told: dict[str, dict[str, str]] = {"hook": {}, "pool": {}}
        self.violations: list[str] = []

    def note_append(self, path: str, offset: str) -> None:
        with self._lock:
            self.appended[path] = max(offset, self.appended.get(path, ""))
            self.appends += 1

    def note_acked(self, streams: list[Any]) -> None:
        with self._lock:
            for stream in streams:
                self.acked[stream["path"]] = max(stream["tail_offset"], self.acked.get(stream["path"], ""))

    def note_told(self, subscription: str, wake: Any) -> None:
        with self._lock:
            wake_id = self._wakes.setdefault((subscription, wake["generation"]), wake["wake_id"])
            if wake_id != wake["wake_id"]:
                self.violations.append(f"{subscription}: generation {wake['generation']} names two wakes")
            told = self._told[subscription]
            for stream in wake["streams"]:
                if stream["has_pending"]:
                    told[stream["path"]] = max(stream["tail_offset"], told.get(stream["path"], ""))

    def untold(self, subscription: str) -> dict[str, str]:
        """Appends that were acknowledged and that the subscription was never told of."""
        with self._lock:
            told = self._told[subscription]
            return {path: offset for path, offset in self.appended.items() if told.get(path, "") < offset}


class Trial:
    """One mode's rounds: its directory, its clients, and how a round goes."""

    def __init__(self, folder: Path, settings: dict[str, str], seed: int) -> None:
        self.rng = random.Random(seed)
        self.ledger = Ledger()
        self._folder = folder
        self._settings = DEVELOPMENT | settings
        self._benign = False
        self._failed_last = False
        self._stopping = threading.Event()

    # -- the receiver and the workers --------------------------------------------------------------------------

    def receive(self, delivery: Delivery) -> bytes | None:
        """The behaviour of the receiver: what it does with a webhook."""
        self.ledger.note_told("hook", delivery.document)
        if self._benign:
            return DONE
        chance = random.random()
        if chance < 0.3 and not self._failed_last:
            self._failed_last = True
            return random.choice(MISBEHAVIOUR)
        self._failed_last = False
        if chance < 0.4:
            return random.choice(TAKEN)
        if chance < 0.5:
            time.sleep(0.2)
        return DONE

    def pull(self, client: Client) -> bool:
        """Claim and ack once; whether there was something to do."""
        claimed = client.send("POST", f"{POOL}/claim", JSON, b'{"worker":"w"}')
        if claimed.status != 200:
            assert claimed.status == 409, claimed
            return False
        wake = json.loads(claimed.body)
        self.ledger.note_told("pool", wake)
        acks = [{"stream": stream["path"], "offset": stream["tail_offset"]} for stream in wake["streams"]]
        body = {"wake_id": wake["wake_id"], "generation": wake["generation"], "acks": acks, "done": True}
        headers = JSON | {"Authorization": f"Bearer {wake['token']}"}
        acked = client.send("POST", f"{POOL}/ack", headers, json.dumps(body).encode())
        # FENCED: the lease of a slow machine has ended.
        assert acked.status in (200, 409), acked
        if acked.status == 200:
            self.ledger.note_acked(wake["streams"])
        return True

    def append(self, client: Client, path: str) -> None:
        method = "POST" if path in self.ledger.appended else "PUT"
        answered = client.send(method, path, JSON, b'"x"')
        if answered.status == 409 or (method == "PUT" and answered.status == 200):
            # It was created in the round before, and its answer got lost.
            answered = client.send("POST", path, JSON, b'"x"')
        assert answered.status in (200, 201, 204), answered
        self.ledger.note_append(path, answered.headers["stream-next-offset"])

    # -- rounds ------------------------------------------------------------------------------------------------

    def prepare(self, receiver: Receiver) -> None:
        with running_server(self._folder, self._settings) as server, Client(server) as client:
            assert client.send("PUT", "wake/pool", JSON).status == 201
            both = {"pattern": "events/**", "lease_ttl_ms": 1000}
            hook = {"type": "webhook", "webhook": {"url": receiver.url}} | both
            pool = {"type": "pull-wake", "wake_stream": "wake/pool"} | both
            for name, config in ((HOOK, hook), (POOL, pool)):
                assert client.send("PUT", name, JSON, json.dumps(config).encode()).status == 201

    def round(self) -> None:
        """Start, check, load, kill."""
        with running_server(self._folder, self._settings) as server:
            self.check(server)
            self._load_and_kill(server)

    def check(self, server: Server) -> None:
        """No cursor that was acknowledged has fallen."""
        with Client(server) as client:
            shown = show(client, POOL)
        cursors = {link["path"]: link["acked_offset"] for link in shown["streams"]}
        fallen = [path for path, offset in self.ledger.acked.items() if cursors[path] < offset]
        assert not fallen, f"cursors have fallen: {fallen}"
        assert not self.ledger.violations

    def finish(self) -> None:
        """Everybody behaves from now on: in the end all has been told, and all is acked."""
        self._benign = True
        with running_server(self._folder, self._settings) as server, Client(server) as client:
            self.check(server)
            deadline = time.monotonic() + PATIENCE_S
            while not self._is_at_rest(client):
                assert time.monotonic() < deadline, (show(client, HOOK), show(client, POOL))
                time.sleep(0.02)
            self.check(server)
        assert self.ledger.untold("hook") == {}
        assert self.ledger.untold("pool") == {}

    def _is_at_rest(self, client: Client) -> bool:
        self.pull(client)
        return all(
            shown["wake"] is None and shown["lag"]["streams"] == 0
            for shown in (show(client, HOOK), show(client, POOL))
        )

    def _load_and_kill(self, server: Server) -> None:
        self._stopping.clear()
        broken: list[BaseException] = []
        threads = [
            threading.Thread(target=self._run, args=(server, work, broken))
            for work in (*map(self._appender, range(APPENDERS)), self._worker)
        ]
        wanted = self.ledger.appends + self.rng.randint(1, APPENDS_MAX)
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + PATIENCE_S
        while self.ledger.appends < wanted and time.monotonic() < deadline and not broken:
            time.sleep(0.001)
        kill(server.process)
        self._stopping.set()
        for thread in threads:
            thread.join()
        assert not broken, broken

    def _run(self, server: Server, work: Callable[[Client], None], broken: list[BaseException]) -> None:
        try:
            with Client(server) as client:
                while not self._stopping.is_set():
                    work(client)
        except NO_ANSWER:
            return
        except BaseException as exc:
            broken.append(exc)

    def _appender(self, number: int) -> Callable[[Client], None]:
        rng = random.Random(self.rng.random())
        return lambda client: self.append(client, f"events/{number}/{rng.randrange(STREAMS_EACH)}")

    def _worker(self, client: Client) -> None:
        if not self.pull(client):
            time.sleep(0.005)


def show(client: Client, subscription: str) -> Any:
    shown: Answer = client.send("GET", subscription)
    assert shown.status == 200, shown
    return json.loads(shown.body)


@pytest.mark.timeout(120 + ROUNDS * 30)
@pytest.mark.parametrize(
    ("mode", "rounds"),
    [
        pytest.param("file-durable", 1, id="once"),
        *(pytest.param(mode, ROUNDS, id=mode, marks=pytest.mark.long) for mode in MODES),
    ],
)
def test_a_killed_server_tells_everybody_in_the_end(mode: str, rounds: int, tmp_path: Path) -> None:
    seed = int(os.environ.get("CRASH_SEED") or random.randrange(2**32))
    print(f"CRASH_SEED={seed}")
    trial = Trial(tmp_path, MODES[mode], seed)
    with Receiver(trial.receive) as receiver:
        trial.prepare(receiver)
        for _ in range(rounds):
            trial.round()
        trial.finish()
    print(f"{mode}: {rounds} rounds, {trial.ledger.appends} acknowledged appends")
