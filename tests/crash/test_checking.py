"""The judge of the crash tests must be able to find somebody guilty: here the server has really failed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.crash.checking import check_shared, check_writer
from tests.crash.client import Client, read_all
from tests.crash.ledger import Known, Step
from tests.crash.test_kill import kill
from tests.crash.writers import Shared, Violation, Writer
from tests.servers import Server, running_server

pytestmark = pytest.mark.server

ACTIONS = 300
NUMBERS = itertools.count(1)
"""Each scene works in streams of its own."""
MEMORY = {"DS_STORAGE__MODE": "memory"}

T = TypeVar("T")


class Scene:
    """One writer that has worked for a while, and what it knows."""

    def __init__(self, client: Client) -> None:
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        self.rng = random.Random(seed)
        self.client = client
        number = next(NUMBERS)
        self.shared = [Shared(f"{number}/text", is_json=False), Shared(f"{number}/json", is_json=True)]
        for stream in self.shared:
            self.client.send("PUT", stream.name, {"Content-Type": stream.content_type})
        self.writer = Writer(number, self.rng, self.shared)
        for _ in range(ACTIONS):
            self.writer.act(self.client)

    def check(self) -> None:
        check_writer(self.client, self.writer, self.rng)
        for stream in self.shared:
            check_shared(self.client, stream, [self.writer], self.rng)

    def pick(self, *, is_json: bool = False, closed: bool = False) -> tuple[str, Known]:
        """A stream of the writer that is there, with content."""
        return self.first(
            lambda: (
                (name, known)
                for name, known in self.writer.world.streams.items()
                if (known.is_json, known.stream.closed) == (is_json, closed)
                and not known.stream.deleted
                and known.stream.ttl is None
                and known.content
            )
        )

    def pick_removed(self) -> str:
        """A stream that the writer has deleted and not made again."""
        world = self.writer.world
        return self.first(lambda: (name for name in world.removed if name not in world.streams))

    def first(self, candidates: Callable[[], Iterator[T]]) -> T:
        """The writer works on until there is one: what it does is random."""
        while (found := next(candidates(), None)) is None:
            self.writer.act(self.client)
        return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("judged"), MEMORY) as server:
        yield server


@pytest.fixture
def scene(server: Server) -> Iterator[Scene]:
    with Client(server) as client:
        yield Scene(client)


def test_a_server_that_does_nothing_wrong_is_believed_twice(scene: Scene) -> None:
    scene.check()
    scene.check()


def test_a_server_that_forgets_everything_is_found_out(tmp_path: Path) -> None:
    with running_server(tmp_path, MEMORY) as server, Client(server) as client:
        scene = Scene(client)
        kill(server.process)
    with running_server(tmp_path, MEMORY) as server, Client(server) as client:
        scene.client = client
        with pytest.raises(Violation, match="answers 404"):
            scene.check()


@pytest.mark.parametrize("is_json", [False, True])
def test_a_record_that_nobody_sent_is_found(scene: Scene, is_json: bool) -> None:
    name, known = scene.pick(is_json=is_json)
    scene.client.send("POST", name, {"Content-Type": known.stream.content_type}, b"[0]")
    with pytest.raises(Violation, match="instead of"):
        scene.check()


def test_a_stream_that_has_gone_is_found(scene: Scene) -> None:
    name, _ = scene.pick()
    scene.client.send("DELETE", name)
    with pytest.raises(Violation, match="answers 4"):
        scene.check()


def test_a_stream_that_has_come_back_is_found(scene: Scene) -> None:
    name = scene.pick_removed()
    scene.client.send("PUT", name)
    with pytest.raises(Violation, match="was deleted, and answers 200"):
        scene.check()


def test_a_stream_that_was_closed_by_nobody_is_found(scene: Scene) -> None:
    name, _ = scene.pick()
    scene.client.send("POST", name, {"Stream-Closed": "true"})
    with pytest.raises(Violation, match="is closed and should not be"):
        scene.check()


@pytest.mark.parametrize("place", [0, 1])
def test_a_shared_record_that_is_there_twice_or_torn_is_found(scene: Scene, place: int) -> None:
    stream = scene.shared[place]
    again = stream.acknowledged[scene.writer.number][0]
    scene.client.send("POST", stream.name, {"Content-Type": stream.content_type}, again.body)
    with pytest.raises(Violation, match="writer"):
        scene.check()


def test_what_was_shown_and_is_no_longer_there_is_found(scene: Scene) -> None:
    stream = scene.shared[0]
    stream.seen = read_all(scene.client, stream.name).content + b"1.999999;"  # type: ignore[operator]
    with pytest.raises(Violation, match="no longer has"):
        scene.check()


def in_doubt(scene: Scene) -> Step:
    """An append whose answer the client has not seen."""
    name, _ = scene.pick()
    step = scene.writer.chooser._append(name)
    scene.writer.world.doubt = step
    return step


@pytest.mark.parametrize("happened", [False, True])
def test_a_step_in_doubt_may_have_happened_or_not(scene: Scene, happened: bool) -> None:
    step = in_doubt(scene)
    if happened:
        scene.client.send(step.method, step.name, step.headers, step.body)
    scene.check()
    assert scene.writer.world.doubt is None
    scene.check()


def test_a_step_in_doubt_that_happened_in_part_is_found(scene: Scene) -> None:
    step = in_doubt(scene)
    headers = {"Content-Type": step.headers["Content-Type"]}
    scene.client.send(step.method, step.name, headers, step.body[: len(step.body) // 2])
    with pytest.raises(Violation, match="happened in part"):
        scene.check()
