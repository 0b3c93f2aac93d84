"""The broadcaster: one encoding for all, nobody waits for a slow reader, and nothing is sent twice or left out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from durable_streams.live import fanout as fanout_module
from durable_streams.live.events import NotText
from durable_streams.live.follower import Follower
from durable_streams.live.waiting import ClientGone
from durable_streams.protocol import sse
from durable_streams.protocol.requests import Append, Create
from durable_streams.protocol.state import NO_EXPIRY, StreamConfig, StreamState
from durable_streams.service import StreamService
from durable_streams.storage.contract import Change
from durable_streams.storage.memory import InMemoryStorage
from durable_streams.streams.batch import Limits
from durable_streams.worker.client_socket import ClientSocket

SECONDS_MAX = 180.0
CHUNK = re.compile(rb"([0-9a-f]+)\r\n")


@pytest.fixture
def service() -> Iterator[StreamService]:
    service = StreamService(InMemoryStorage(), Limits())
    service.open()
    with gevent.Timeout(SECONDS_MAX):
        yield service
    service.close()


def create(service: StreamService, name: str, content_type: str = "text/plain") -> None:
    service.store.create(Create(name, content_type, NO_EXPIRY, closed=False, body=b""))


def append(service: StreamService, name: str, data: bytes, close: bool = False) -> None:
    service.store.append(Append(name, service.store.find(name).config.content_type, data, close))


class Reader:
    """A caught-up reader: a socket pair, and the greenlet that would be its connection's."""

    def __init__(
        self, service: StreamService, name: str, seconds: float = SECONDS_MAX, *, as_base64: bool = False
    ) -> None:
        self.ours, self.theirs = socket.socketpair()
        state = service.store.find(name)
        self.follower = Follower(service.store, state, 0, None, as_base64=as_base64 or None)
        while self.follower.next_event():
            pass
        fanout = service.fanout
        self.greenlet = gevent.spawn(
            fanout.follow, self.follower, ClientSocket(self.ours, SECONDS_MAX), seconds
        )
        gevent.sleep(0)

    def receive(self, data: bytes) -> bytes:
        """Everything up to and with the control event after ``data``, the chunked coding removed."""
        received = b""
        while data not in received or not received.endswith(b"\n\n\r\n"):
            received += self.theirs.recv(1 << 20)
        return CHUNK.sub(b"", received)

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


def test_every_reader_gets_the_same_bytes(service: StreamService) -> None:
    create(service, "s")
    readers = [Reader(service, "s") for _ in range(5)]
    append(service, "s", b"hello")
    received = {reader.receive(b"data:hello") for reader in readers}
    assert len(received) == 1
    (events,) = received
    control = json.loads(re.findall(rb"event: control\ndata:(.*)\n", events)[0])
    assert control["upToDate"] is True
    assert service.fanout.readers == 5
    service.fanout.stop()
    gevent.joinall([reader.greenlet for reader in readers], raise_error=True)
    assert service.fanout.readers == 0
    assert {reader.follower.position for reader in readers} == {5}
    for reader in readers:
        reader.close()


def test_a_range_is_encoded_once_for_all_readers(
    service: StreamService, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[bytes] = []
    encode = sse.data_event

    def counting(config: StreamConfig, data: bytes, *rest: Any, **options: Any) -> bytes:
        encoded.append(data)
        return encode(config, data, *rest, **options)

    monkeypatch.setattr(sse, "data_event", counting)
    create(service, "s")
    readers = [Reader(service, "s") for _ in range(20)]
    append(service, "s", b"once")
    for reader in readers:
        reader.receive(b"data:once")
    assert encoded == [b"once"]
    service.fanout.stop()
    gevent.joinall([reader.greenlet for reader in readers])
    for reader in readers:
        reader.close()


def test_a_stalled_reader_holds_up_nobody_and_loses_nothing(service: StreamService) -> None:
    create(service, "s")
    stalled, lively = Reader(service, "s"), Reader(service, "s")
    piece = b"x" * 100_000
    for number in range(40):
        append(service, "s", b"%05d" % number + piece)
        lively.receive(b"data:%05d" % number)
    # Its socket took what it could; then its own greenlet was given the rest to send.
    assert service.fanout.readers == 1
    received = b""

    def drain() -> None:
        nonlocal received
        while data := stalled.theirs.recv(1 << 20):
            received += data

    draining = gevent.spawn(drain)
    assert stalled.greenlet.get()
    taken = stalled.follower.position
    stalled.ours.shutdown(socket.SHUT_WR)
    draining.join()
    sent = b"".join(re.findall(rb"data:([0-9]{5}x+)", CHUNK.sub(b"", received)))
    assert len(sent) == taken > 0
    assert sent == service.store.read(service.store.find("s"), 0, taken).data
    service.fanout.stop()
    lively.greenlet.join()
    stalled.close()
    lively.close()


def replace_in_one_step(service: StreamService, name: str) -> None:
    """What a batch does in which a stream goes and another takes its name."""
    before = service.store.find(name)
    config = replace(before.config, uid="another")
    change = Change(before, replace(before, config=config, tail=3), [b"new"])
    service.store.storage.commit(0, [(change,)], {})
    service.wakes.publish([change])


@pytest.mark.parametrize("ending", ["close", "delete", "replace", "stop"])
def test_the_end_of_a_stream_or_of_the_server_lets_readers_go(service: StreamService, ending: str) -> None:
    create(service, "s")
    reader = Reader(service, "s")
    if ending == "close":
        append(service, "s", b"", close=True)
    elif ending == "delete":
        service.store.remove("s")
    elif ending == "replace":
        replace_in_one_step(service, "s")
    else:
        service.stop_live()
    assert reader.greenlet.get() is True
    assert service.fanout.readers == 0
    reader.close()


def test_a_reader_leaves_when_its_time_is_over(service: StreamService) -> None:
    create(service, "s")
    reader = Reader(service, "s", seconds=0.01)
    assert reader.greenlet.get() is False
    assert service.fanout.readers == 0
    reader.close()


def test_a_reader_whose_client_has_gone_leaves_at_once(service: StreamService) -> None:
    create(service, "s")
    reader = Reader(service, "s")
    reader.theirs.close()
    with pytest.raises(ClientGone):
        reader.greenlet.get()
    assert service.fanout.readers == 0
    reader.close()


@pytest.mark.parametrize(("size", "sends"), [(1, 4), (50_000, 1)])
def test_others_get_a_turn_the_sooner_the_larger_the_event_is(
    service: StreamService, monkeypatch: pytest.MonkeyPatch, size: int, sends: int
) -> None:
    steps: list[str] = []
    send, yield_to_loop = fanout_module._Member.send, fanout_module.yield_to_loop
    monkeypatch.setattr(fanout_module._Member, "send", lambda *it: (steps.append("send"), send(*it)))
    monkeypatch.setattr(fanout_module, "yield_to_loop", lambda: (steps.append("turn"), yield_to_loop()))
    monkeypatch.setattr(fanout_module, "SENDS_PER_TURN", 4)
    create(service, "s")
    readers = [Reader(service, "s") for _ in range(9)]
    append(service, "s", b"x" * size)
    for reader in readers:
        reader.receive(b"data:x")
    assert steps[: 2 * sends + 1] == ["send"] * sends + ["turn"] + ["send"] * sends
    service.fanout.stop()
    gevent.joinall([reader.greenlet for reader in readers], raise_error=True)
    for reader in readers:
        reader.close()


def test_readers_of_text_and_of_base64_get_their_own_events(service: StreamService) -> None:
    create(service, "s")
    text, encoded = Reader(service, "s"), Reader(service, "s", as_base64=True)
    append(service, "s", b"hello")
    assert b"data:hello" in text.receive(b"data:hello")
    assert b"aGVsbG8=" in encoded.receive(b"data:aGVsbG8=")
    # Half a character is text for nobody, and bytes like any other in base64.
    append(service, "s", b"\xc3")
    encoded.receive(b"data:ww==")
    # The other half is missing: text ends here, and its reader's own greenlet ends the connection.
    append(service, "s", b"x")
    encoded.receive(b"data:eA==")
    assert text.greenlet.get() is True
    text.follower.state = service.store.find("s")
    with pytest.raises(NotText):
        text.follower.next_event()
    service.fanout.stop()
    encoded.greenlet.join()
    text.close()
    encoded.close()


def test_a_reader_that_leaves_while_its_event_is_read_is_sent_nothing(
    service: StreamService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A storage on disk lets others go on meanwhile, and who has left goes on by itself from where it was."""
    next_part = fanout_module.next_part

    def leaving_meanwhile(*arguments: Any, **options: Any) -> Any:
        leaving.greenlet.kill()
        return next_part(*arguments, **options)

    create(service, "s")
    leaving, staying = Reader(service, "s"), Reader(service, "s")
    monkeypatch.setattr(fanout_module, "next_part", leaving_meanwhile)
    append(service, "s", b"data")
    staying.receive(b"data:data")
    leaving.ours.close()
    assert leaving.theirs.recv(100) == b""
    service.fanout.stop()
    staying.greenlet.join()
    leaving.close()
    staying.close()


def test_the_broadcaster_outlives_a_round_that_fails(
    service: StreamService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*arguments: Any, **options: Any) -> bytes:
        raise RuntimeError("nobody has thought of it")

    create(service, "broken")
    create(service, "whole")
    broken, whole = Reader(service, "broken"), Reader(service, "whole")
    with monkeypatch.context() as patch:
        patch.setattr(fanout_module, "next_part", failing)
        append(service, "broken", b"data")
        # Let go, so that its own greenlet meets the error, or gets by without it.
        assert broken.greenlet.get() is True
    append(service, "whole", b"data")
    whole.receive(b"data:data")
    service.fanout.stop()
    whole.greenlet.join()
    broken.close()
    whole.close()


def test_a_stream_that_is_slow_to_read_holds_up_no_other(
    service: StreamService, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, goes_on = service.store.find, Event()

    def find_slowly(name: str) -> StreamState:
        if name == "slow":
            goes_on.wait()
        return find(name)

    create(service, "slow")
    create(service, "quick")
    slow, quick = Reader(service, "slow"), Reader(service, "quick")
    append(service, "slow", b"late")
    monkeypatch.setattr(service.store, "find", find_slowly)
    service.store.append(Append("quick", "text/plain", b"early"))
    quick.receive(b"data:early")
    goes_on.set()
    slow.receive(b"data:late")
    service.fanout.stop()
    gevent.joinall([slow.greenlet, quick.greenlet], raise_error=True)
    slow.close()
    quick.close()


def test_a_broken_socket_takes_out_only_its_reader(service: StreamService) -> None:
    create(service, "s")
    broken, whole = Reader(service, "s"), Reader(service, "s")
    broken.ours.shutdown(socket.SHUT_WR)
    append(service, "s", b"data")
    whole.receive(b"data:data")
    assert broken.greenlet.get() is True
    assert broken.follower.position == 0
    service.fanout.stop()
    whole.greenlet.join()
    broken.close()
    whole.close()


def test_a_character_is_sent_when_its_last_byte_has_come(service: StreamService) -> None:
    create(service, "s")
    reader = Reader(service, "s")
    euro = "\N{EURO SIGN}".encode()
    append(service, "s", b"a" + euro[:2])
    assert b"upToDate" in reader.receive(b"data:a\n")
    append(service, "s", euro[2:])
    assert b"upToDate" in reader.receive(b"data:" + euro)
    service.fanout.stop()
    reader.greenlet.join()
    reader.close()
