"""Catch-up reads without a limit (section 5.6): all that there is in one answer, read while it is sent."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zstandard
from webtest.lint import middleware  # type: ignore[import-untyped]
from werkzeug.test import EnvironBuilder

from durable_streams.eventloop.turns import CutShort
from durable_streams.storage.memory import InMemoryStorage
from durable_streams.streams import reading
from tests.web.conftest import OpenServer
from tests.web.driving import BYTES, JSON, TEXT, Headers, Server, path_of

PIECE_BYTES = 100


class CountedStorage(InMemoryStorage):
    """Memory that knows how much has been read of it."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[int] = []

    def read(self, state: Any, start: int, stop: int) -> bytes:
        data = super().read(state, start, stop)
        self.reads.append(len(data))
        return data


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PAGE_PIECE_BYTES", PIECE_BYTES)


@pytest.fixture
def storage() -> CountedStorage:
    return CountedStorage()


@pytest.fixture(params=[False, True], ids=["own app", "embedded"])
def server(request: pytest.FixtureRequest, open_server: OpenServer, storage: CountedStorage) -> Server:
    return open_server(storage, embedded=request.param)


def numbered(count: int) -> bytes:
    """Bytes of which every part says where it belongs."""
    return b"".join(b"%09d " % number for number in range(count))


class OpenAnswer:
    """An answer that is taken piece by piece, as a WSGI server does; what breaks the rules of WSGI fails."""

    def __init__(self, server: Server, target: str, headers: Headers | None = None) -> None:
        self.headers: Headers = {}
        environ = EnvironBuilder(path_of(target), headers=headers or {}).get_environ()
        self._body = middleware(server.flask)(environ, self._start)
        self.pieces = iter(self._body)

    def _start(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[..., None]:
        self.status = status
        self.headers = dict(headers)
        return lambda data: None

    def __enter__(self) -> OpenAnswer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._body.close()


def test_all_that_there_is_comes_in_one_answer(server: Server) -> None:
    server.put("s", numbered(50), TEXT)
    server.post("s", numbered(51), TEXT)
    for position in (0, 7, 500, 910, 911, 1009):
        answer = server.get(f"s?offset={server.offset('s', position)}")
        assert answer.body == (numbered(50) + numbered(51))[position:]
        assert answer.headers["Content-Length"] == str(1010 - position)
        assert answer.headers["Stream-Up-To-Date"] == "true"
        assert answer.headers["Stream-Next-Offset"] == server.tail("s")


def test_json_is_one_array(server: Server) -> None:
    messages = [{"number": number, "text": 'a, "b",\n' * (number % 30)} for number in range(60)]
    server.put("s", json.dumps(messages).encode(), JSON)
    answer = server.get("s")
    assert answer.text == json.dumps(messages, separators=(",", ":"))
    assert answer.headers["Content-Length"] == str(len(answer.body))
    first = len(json.dumps(messages[0], separators=(",", ":"))) + 1
    assert server.get(f"s?offset={server.offset('s', first)}").json == messages[1:]
    assert server.get(f"s?offset={server.offset('s', first + 1)}").status_int == 400


def test_a_fork_is_read_over_all_its_sources(server: Server) -> None:
    server.put("1", numbered(33), BYTES)
    server.put("2", b"x" * 250, {"Stream-Forked-From": "1", "Stream-Fork-Offset": server.offset("1", 275)})
    server.put("3", b"y" * 250, {"Stream-Forked-From": "2", "Stream-Fork-Offset": server.offset("2", 420)})
    for soft_deleted in (False, True):
        answer = server.get("3")
        assert answer.body == numbered(33)[:275] + b"x" * 145 + b"y" * 250
        assert answer.headers["Content-Length"] == "670"
        if not soft_deleted:
            server.delete("1")
            server.delete("2")


@pytest.mark.parametrize("coding", [None, "gzip", "deflate", "zstd"])
def test_no_more_is_read_than_is_sent(server: Server, storage: CountedStorage, coding: str | None) -> None:
    """However long the stream is, a reader costs the piece that is sent, and the one before it."""
    server.put("s", numbered(1000), TEXT)
    storage.reads.clear()
    with OpenAnswer(server, "s", {"Accept-Encoding": coding} if coding else {}) as answer:
        for taken, _ in enumerate(answer.pieces):
            assert max(storage.reads) <= PIECE_BYTES
            assert len(storage.reads) <= min(taken + 1, 100)
    assert sum(storage.reads) == 10_000


DECODE: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "zstd": lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body),
}


@pytest.mark.parametrize("coding", DECODE)
@pytest.mark.parametrize("content_type", [TEXT, JSON], ids=["text", "json"])
def test_a_long_answer_is_compressed_while_it_is_sent(
    server: Server, coding: str, content_type: Headers
) -> None:
    body = numbered(3000) if content_type is TEXT else b"[" + b",".join([b'{"same":"thing"}'] * 3000) + b"]"
    server.put("s", body, content_type)
    with OpenAnswer(server, "s", {"Accept-Encoding": coding}) as answer:
        sent = b"".join(answer.pieces)
    assert answer.headers["Content-Encoding"] == coding
    assert "Content-Length" not in answer.headers
    assert len(sent) < len(body) / 2
    assert DECODE[coding](sent) == body
    tag = answer.headers["ETag"]
    assert server.get("s", {"Accept-Encoding": coding, "If-None-Match": tag}).status_int == 304
    assert server.get("s", {"If-None-Match": tag}).body == body


def test_what_is_appended_meanwhile_is_for_the_next_answer(server: Server) -> None:
    server.put("s", numbered(100), TEXT)
    with OpenAnswer(server, "s") as answer:
        begun = next(answer.pieces)
        server.post("s", b"more", TEXT)
        assert begun + b"".join(answer.pieces) == numbered(100)
        assert server.get(f"s?offset={answer.headers['Stream-Next-Offset']}").body == b"more"


@pytest.mark.parametrize("coding", [None, "gzip"])
@pytest.mark.parametrize("comes_back", [False, True])
def test_a_stream_that_is_deleted_meanwhile_cuts_the_answer_short(
    server: Server, coding: str | None, comes_back: bool
) -> None:
    server.put("s", numbered(100), TEXT)
    received: list[bytes] = []
    with OpenAnswer(server, "s", {"Accept-Encoding": coding} if coding else {}) as answer:
        for piece in answer.pieces:
            received.append(piece)
            if len(received) == 3:
                break
        server.delete("s")
        if comes_back:
            server.put("s", b"others" * 200, TEXT)
        with pytest.raises(CutShort, match="not found: s"):
            received += answer.pieces
    if coding is None:
        assert b"".join(received) == numbered(100)[: 3 * PIECE_BYTES]
        assert answer.headers["Content-Length"] == "1000"


def leave_when_done(answer: OpenAnswer) -> None:
    assert b"".join(answer.pieces)


def leave_at_once(answer: OpenAnswer) -> None:
    next(answer.pieces)


@pytest.mark.parametrize("leave", [leave_when_done, leave_at_once])
def test_a_stream_does_not_expire_while_it_is_sent(
    server: Server, leave: Callable[[OpenAnswer], None]
) -> None:
    server.put("s", numbered(100), {**TEXT, "Stream-TTL": "100"})
    with OpenAnswer(server, "s") as answer:
        next(answer.pieces)
        server.clock.now += 1000
        server.store.sweep()
        leave(answer)
    assert server.head("s").status_int == 200
    server.clock.now += 101
    server.store.sweep()
    assert server.head("s").status_int == 404


def test_what_is_wrong_is_said_before_the_answer_begins(
    open_server: OpenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = open_server()
    server.put("s", numbered(100), TEXT)

    def fail(*args: object) -> Iterator[bytes]:
        raise OSError("the disk is gone")

    monkeypatch.setattr(server.store.storage, "read", fail)
    assert server.get("s").status_int == 500


def test_a_long_poll_keeps_its_bound(open_server: OpenServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("durable_streams.web.stream_routes.POLL_BYTES_MAX", 300)
    server = open_server()
    server.put("s", numbered(100), TEXT)
    answer = server.get("s?offset=-1&live=long-poll")
    assert (len(answer.body), "Stream-Up-To-Date" in answer.headers) == (300, False)
