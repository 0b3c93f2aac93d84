"""Stories of subscriptions that write down what clients were answered, and what must hold after any crash in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gevent

from durable_streams.protocol.subscriptions.requests import WakeUp
from durable_streams.storage.contract import Storage
from durable_streams.storage.files import FileStorage
from durable_streams.storage.on_disk.disk import Disk
from durable_streams.storage.zodb import AcidStorage
from durable_streams.subscriptions.dispatching.delivering import DeliveryFailed
from durable_streams.subscriptions.webhooks.client import WebhookAnswer
from tests.disk.history import History
from tests.disk.recording import HastyDisk, RecordingDisk
from tests.subscriptions.driving import Subscribed, error_of

HOOK = {"url": "http://127.0.0.1:9/hook"}
CLAIMS_MAX = 30


@dataclass(frozen=True)
class Mode:
    """A durable mode; ``cuts``: also a power cut takes nothing that was answered."""

    name: str
    build: Callable[[Path, Disk], Storage]
    cuts: bool = True


MODES = [
    Mode("file-durable", lambda folder, disk: FileStorage(folder, durable=True, disk=disk)),
    Mode("file-fast", lambda folder, disk: FileStorage(folder, durable=False, disk=disk), cuts=False),
    Mode("acid", lambda folder, disk: AcidStorage(folder, 2, disk=disk)),
]


@dataclass
class Facts:
    """What was asked and what was answered up to some moment."""

    subscribed: bool = False
    is_webhook: bool = False
    deleting: bool = False
    appended: dict[str, str] = field(default_factory=dict)
    """Path -> offset of the newest append that was answered."""
    removed: set[str] = field(default_factory=set)
    """Streams that were asked to be deleted, so that they may be there or not."""
    asked: dict[str, str] = field(default_factory=dict)
    """Path -> the highest offset that an ack has named, whether it was answered or not."""
    acked: dict[str, str] = field(default_factory=dict)
    """Path -> the highest offset whose ack was answered."""
    told: dict[int, str] = field(default_factory=dict)
    """Generation -> wake_id, as workers have them."""


def facts_of(notes: Iterable[Any]) -> Facts:
    facts = Facts()
    for note in notes:
        match note:
            case ("subscribed", is_webhook):
                facts.subscribed, facts.is_webhook, facts.deleting = True, is_webhook, False
            case ("subscribing",):
                # What was there before is linked at its tail.
                facts.appended.clear()
            case ("deleting",):
                facts.deleting = True
                for known in (facts.appended, facts.asked, facts.acked):
                    known.clear()
            case ("appended", path, offset):
                facts.appended[path] = offset
                facts.removed.discard(path)
            case ("removing", path):
                facts.removed.add(path)
                for known in (facts.appended, facts.asked, facts.acked):
                    known.pop(path, None)
            case ("asked" | "acked" as kind, acks):
                known = facts.asked if kind == "asked" else facts.acked
                known.update((path, max(offset, known.get(path, ""))) for path, offset in acks)
            case ("told", generation, wake_id):
                assert facts.told.setdefault(generation, wake_id) == wake_id, "a generation was used twice"
    return facts


class Story:
    """A server over a recorded disk; each method does one thing and notes what a client would know."""

    def __init__(self, mode: Mode, folder: Path, history: History) -> None:
        self.mode = mode
        self.folder = folder
        self.history = history
        self.posts: list[str] = []
        """What the receiver answers next: `done`, `taken` or `failed`; `done` for ever after the last."""
        self.server = self._start()

    def _start(self) -> Subscribed:
        disk = RecordingDisk(self.folder, self.history)
        server = Subscribed(self.mode.build(self.folder, disk))
        receive(server, self._receive)
        server.settle()
        return server

    def _receive(self, told: Any) -> str:
        self.history.note(("told", told["generation"], told["wake_id"]))
        said = self.posts.pop(0) if self.posts else "done"
        if said == "done":
            acks = [(stream["path"], stream["tail_offset"]) for stream in told["streams"]]
            self.history.note(("asked", acks))
        return said

    def restart(self, meanwhile: Iterable[str] = ()) -> None:
        """A clean end and another start; ``meanwhile`` streams are appended to while no subscriptions are served."""
        self.server.subscriptions.close()
        self.server.service.listeners.remove(self.server.dispatcher)
        for path in meanwhile:
            self.append(path)
        self.server.close()
        self.server = self._start()

    def stall(self) -> None:
        """The dispatcher does nothing from now on."""
        self.server.settle()
        self.server.dispatcher._leads = lambda: False
        self.server.dispatcher._was_leading = False

    def go_on(self) -> None:
        self.server.dispatcher._leads = None
        self.server.settle()

    def close(self) -> None:
        self.server.close()

    # -- what clients do ---------------------------------------------------------------------------------------

    def subscribe(self, **config: Any) -> None:
        self.history.note(("subscribing",))
        self.server.subscribe(**config)
        self.history.note(("subscribed", "webhook" in config))

    def delete_subscription(self) -> None:
        self.history.note(("deleting",))
        assert self.server.control("DELETE", "sub-1").status_int == 204

    def append(self, path: str = "events/a", message: object = "x", **headers: str) -> None:
        if self.server.head(path).status_int == 404:
            offset = self.server.create(path, message, **headers)
        else:
            offset = self.server.append(path, message)
        self.history.note(("appended", path, offset))

    def delete(self, path: str) -> None:
        self.history.note(("removing", path))
        self.server.delete(path)

    def claim(self) -> Any:
        told = self.server.claim()
        self.history.note(("told", told["generation"], told["wake_id"]))
        return told

    def ack(self, told: Any, *, done: bool = True, action: str = "/ack") -> Any:
        acks = [(stream["path"], stream["tail_offset"]) for stream in told["streams"]]
        self.history.note(("asked", acks))
        response = self.server.ack(told, acks=acks, done=done, action=action)
        if response.status_int == 200:
            self.history.note(("acked", acks))
        return response

    def settle(self) -> None:
        self.server.settle()

    def advance(self, seconds: float) -> None:
        self.server.settle()
        self.server.advance(seconds)
        self.server.settle()

    def record_wake(self) -> None:
        """Only that: nobody is told."""
        self.server.registry.update("sub-1", WakeUp("w_recorded"))


def receive(server: Subscribed, answer: Callable[[Any], str]) -> None:
    """Let ``answer`` stand in the place of a receiver."""
    from json import loads

    def send(url: str, body: bytes, timeout_s: float, headers: Mapping[str, str]) -> WebhookAnswer:
        said = answer(loads(body))
        gevent.sleep(0)
        if said == "failed":
            raise DeliveryFailed("the receiver answered 503 Service Unavailable")
        return WebhookAnswer(said == "done")

    deliverer = server.dispatcher._take_step.__self__  # type: ignore[attr-defined]
    deliverer._send = send


def check(mode: Mode, folder: Path, facts: Facts) -> None:
    """Serve what a crash has left in ``folder``: everything that was answered holds, and all is told in the end."""
    server = Subscribed(mode.build(folder, HastyDisk()))
    told: dict[int, Any] = {}
    receive(server, lambda document: (told.__setitem__(document["generation"], document), "done")[1])
    try:
        server.settle()
        found = server.control("GET", "sub-1")
        if found.status_int == 404:
            assert facts.deleting or not facts.subscribed
            return
        _check_cursors(found.json, facts, told.values())
        _drain(server, told)
        for generation, document in told.items():
            known = facts.told.get(generation, document["wake_id"])
            assert known == document["wake_id"], f"generation {generation} is used for another wake"
        _check_told(server.shown(), told, facts)
    finally:
        server.close()


def _check_cursors(shown: Any, facts: Facts, told: Iterable[Any]) -> None:
    """No cursor lies before what was answered, none beyond what was asked.

    ``told``: webhooks that have been delivered since, and were answered.
    """
    newest = dict(facts.asked)
    for stream in (stream for document in told for stream in document["streams"]):
        newest[stream["path"]] = max(stream["tail_offset"], newest.get(stream["path"], ""))
    cursors = {link["path"]: link["acked_offset"] for link in shown["streams"]}
    for path, offset in facts.acked.items():
        if path not in facts.removed:
            assert cursors.get(path, "") >= offset, f"the cursor of {path} has fallen"
    for path, asked in newest.items():
        if path in cursors and path not in facts.removed and _same_life(cursors[path], asked):
            assert cursors[path] <= asked, f"the cursor of {path} was moved by nobody"


def _drain(server: Subscribed, told: dict[int, Any]) -> None:
    """Let workers do all that is left."""
    for _ in range(CLAIMS_MAX):
        server.advance(100)
        server.settle()
        if server.shown()["type"] == "webhook":
            continue
        claimed = server.control("POST", "sub-1", "/claim", {"worker": "w"})
        if claimed.status_int != 200:
            assert error_of(claimed) == (409, "NO_PENDING_WORK")
            return
        told[claimed.json["generation"]] = claimed.json
        assert server.ack(claimed.json).status_int == 200


def _check_told(shown: Any, told: dict[int, Any], facts: Facts) -> None:
    """What was appended and not acked has made a wake; in the end everything is acked."""
    assert shown["lag"] == {"streams": 0, "bytes": 0}
    newest: dict[str, str] = {}
    for document in told.values():
        for stream in document["streams"]:
            if stream["has_pending"]:
                newest[stream["path"]] = max(stream["tail_offset"], newest.get(stream["path"], ""))
    for path, offset in facts.appended.items():
        if path not in facts.removed and not _is_at_tail(path, facts):
            assert newest.get(path, "") >= offset, f"nobody was told of {path}"


def _is_at_tail(path: str, facts: Facts) -> bool:
    return facts.asked.get(path, "") >= facts.appended[path]


def _same_life(one: str, other: str) -> bool:
    return one.partition("_")[0] == other.partition("_")[0]
