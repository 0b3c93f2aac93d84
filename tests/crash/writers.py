"""The load of a round: client threads that change their own streams and shared ones until the server dies.

A writer does one request after the other, so at most one step of it is in doubt when the server is killed.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.crash.client import NO_ANSWER, Client, read_all
from tests.crash.ledger import Step, World
from tests.crash.steps import Chooser
from tests.model import Content
from tests.servers import Answer

SHARED_SHARE = 0.3
"""How much of a writer's work goes to the streams that all writers write to."""


class Violation(Exception):
    """The server has broken its word; the message says how."""


@dataclass(frozen=True)
class SharedAppend:
    """One append to a shared stream: its records, each `[writer, number]`, and where the stream ended after it."""

    numbers: tuple[int, ...]
    headers: dict[str, str]
    body: bytes
    next_offset: str = ""


@dataclass
class Shared:
    """A stream that every writer appends to; a writer touches only what is filed under its own number."""

    name: str
    is_json: bool
    acknowledged: dict[int, list[SharedAppend]] = field(default_factory=dict)
    doubt: dict[int, SharedAppend] = field(default_factory=dict)
    seen_to: str = "-1"
    """How far the watcher has read."""

    def __post_init__(self) -> None:
        self.seen: Content = () if self.is_json else b""
        """What the watcher has read, from the start."""

    @property
    def content_type(self) -> str:
        return "application/json" if self.is_json else "text/plain"

    def records(self, content: Content) -> list[tuple[int, int]]:
        """The `(writer, number)` of every record in the content. Raises ValueError for a torn one."""
        if not isinstance(content, bytes):
            return [(writer, number) for writer, number in content]
        if content and not content.endswith(b";"):
            raise ValueError("the last record is cut")
        pairs = (record.split(b".") for record in content.split(b";")[:-1])
        return [(int(writer), int(number)) for writer, number in pairs]

    def encode(self, writer: int, numbers: Sequence[int]) -> bytes:
        if self.is_json:
            return json.dumps([[writer, number] for number in numbers]).encode()
        return b"".join(b"%d.%d;" % (writer, number) for number in numbers)


class Writer:
    """One client of all rounds; its world outlives the server."""

    def __init__(
        self, number: int, rng: random.Random, shared: Sequence[Shared], late_expiry: float = 0.0
    ) -> None:
        self.number = number
        self.world = World(late_expiry)
        self.chooser = Chooser(rng, self.world, f"writer{number}")
        self._shared = shared
        self._rng = rng
        self._numbered = 0
        self._sequences = dict.fromkeys((stream.name for stream in shared), -1)
        for stream in shared:
            stream.acknowledged[number] = []

    def run(self, connect: Callable[[], Client], acknowledged: Callable[[], bool]) -> None:
        """Change streams until the server no longer answers, or `acknowledged`, called after each answer, is false.

        Raises Violation for an answer that the protocol does not allow.
        """
        with connect() as client, contextlib.suppress(*NO_ANSWER):
            self.act(client)
            while acknowledged():
                self.act(client)

    def act(self, client: Client) -> None:
        """Change something: a stream of its own, or one that all share."""
        if self._rng.random() < SHARED_SHARE:
            self._append_shared(client, self._rng.choice(self._shared))
        else:
            self.take(client, self.chooser.next_step())

    def take(self, client: Client, step: Step, statuses: tuple[int, ...] = ()) -> None:
        """Send a step and note what came of it; while its answer is out, it is the world's doubt."""
        world = self.world
        world.doubt, world.doubted_from = step, time.time()
        answer = client.send(step.method, step.name, step.headers, step.body)
        world.doubt = None
        expect(answer, statuses or step.statuses, f"{step.method} {step.name} {dict(step.headers)}")
        world.accept(step, answer.headers.get("stream-next-offset"), world.doubted_from, time.time())

    # -- shared streams --------------------------------------------------------------------------------------

    def _append_shared(self, client: Client, stream: Shared) -> None:
        count = self._rng.randint(1, 3)
        numbers = tuple(range(self._numbered, self._numbered + count))
        self._numbered += count
        headers = {"Content-Type": stream.content_type}
        if self.is_producer:
            headers |= {
                "Producer-Id": f"writer {self.number}",
                "Producer-Epoch": "0",
                "Producer-Seq": str(self._sequences[stream.name] + 1),
            }
        self.send_shared(client, stream, SharedAppend(numbers, headers, stream.encode(self.number, numbers)))

    @property
    def is_producer(self) -> bool:
        """Some writers append to the shared streams without the producer headers."""
        return self.number % 4 != 0

    def send_shared(self, client: Client, stream: Shared, append: SharedAppend) -> Answer:
        """Append to a shared stream; what is sent again is filed only once."""
        stream.doubt[self.number] = append
        answer = client.send("POST", stream.name, append.headers, append.body)
        statuses = (200, 204) if self.is_producer else (204,)
        expect(answer, statuses, f"append {append.numbers} of writer {self.number} to {stream.name}")
        # The answer to a repetition names the tail, which need not be where the append ends.
        is_new = answer.status == 200 or not self.is_producer
        self.file_shared(stream, answer.headers["stream-next-offset"] if is_new else "")
        return answer

    def file_shared(self, stream: Shared, next_offset: str = "") -> None:
        """The append in doubt is in the stream. Without `next_offset` nobody knows where it ends."""
        append = stream.doubt.pop(self.number)
        if self.is_producer:
            self._sequences[stream.name] += 1
        done = SharedAppend(append.numbers, append.headers, append.body, next_offset)
        stream.acknowledged[self.number].append(done)


def expect(answer: Answer, statuses: tuple[int, ...], what: str) -> None:
    if answer.status not in statuses:
        raise Violation(f"{what}: {answer.status} instead of {statuses}: {answer.body[:300]!r}")


def watch(connect: Callable[[], Client], shared: Sequence[Shared], goes_on: Callable[[], bool]) -> None:
    """Read the shared streams as they grow, until the server no longer answers, and remember what was shown."""
    with connect() as client, contextlib.suppress(*NO_ANSWER):
        while goes_on():
            for stream in shared:
                found = read_all(client, stream.name, stream.seen_to)
                if found.status != 200:
                    raise Violation(f"reading {stream.name} from {stream.seen_to}: {found.status}")
                stream.seen += found.content  # type: ignore[operator]
                stream.seen_to = found.tail


class Load:
    """All clients of one round at work."""

    def __init__(
        self, connect: Callable[[], Client], writers: Sequence[Writer], shared: Sequence[Shared]
    ) -> None:
        self.broken: list[BaseException] = []
        """What the clients have found wrong."""
        self.answered = 0
        self._stops = False
        self._changed = threading.Condition()
        jobs: list[Callable[[], Any]] = [lambda: watch(connect, shared, lambda: not self._stops)]
        jobs += [lambda writer=writer: writer.run(connect, self._count) for writer in writers]  # type: ignore[misc]
        self._threads = [threading.Thread(target=self._guard, args=(job,), daemon=True) for job in jobs]
        for thread in self._threads:
            thread.start()

    def await_answers(self, count: int, timeout_s: float) -> None:
        """Return when `count` steps were acknowledged, or something broke. Raises Violation when neither came."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.answered >= count or self.broken, timeout_s):
                raise Violation(f"only {self.answered} of {count} steps were answered in {timeout_s} s")

    def stop(self) -> None:
        """Let every client finish the request that it is at, and no more."""
        self._stops = True

    def join(self) -> int:
        """Wait for the clients of a server that has died, or of a stopped load; how many steps were acknowledged."""
        for thread in self._threads:
            thread.join()
        return self.answered

    def _guard(self, job: Callable[[], Any]) -> None:
        try:
            job()
        except BaseException as exc:
            with self._changed:
                self.broken.append(exc)
                self._changed.notify()

    def _count(self) -> bool:
        with self._changed:
            self.answered += 1
            self._changed.notify()
        return not self._stops
