"""The Python API does what HTTP does: the same streams, the same errors, from greenlets and from threads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import gevent
import pytest

from durable_streams import AcidStorage, Config, FileStorage, InMemoryStorage, Streams, build_blueprint
from durable_streams.embedding import Page, Producer, StreamInfo
from durable_streams.protocol.errors import (
    BadRequest,
    ContentTypeMismatch,
    EmptyArray,
    EmptyBody,
    InvalidHeader,
    InvalidOffset,
    InvalidStreamName,
    ProducerSeqGap,
    ProtocolError,
    RequestBodyTooLarge,
    RouteNotFound,
    StreamClosed,
    StreamExists,
    StreamGone,
    StreamNotFound,
    StreamSeqRegression,
    TooLarge,
    Unavailable,
)
from durable_streams.storage.contract import Storage
from tests.embedding.conftest import Embedded

PATIENCE_S = 180.0
TEXT = {"Content-Type": "text/plain"}


@pytest.fixture
def streams(embedded: Embedded) -> Streams:
    return embedded.streams


def test_what_python_writes_http_reads_and_the_other_way_round(embedded: Embedded) -> None:
    created = embedded.streams.create("a/b", "text/plain", "one ")
    assert created == StreamInfo("a/b", "text/plain", created.offset, False, None, None, is_new=True)
    appended = embedded.streams.append("a/b", b"two ")
    embedded.http.post("/streams/a/b", "three", headers=TEXT)
    response = embedded.http.get("/streams/a/b?offset=-1")
    assert response.text == "one two three"
    page = embedded.streams.read("a/b")
    assert page == Page(response.body, response.headers["Stream-Next-Offset"], "text/plain", True, False)
    assert page.text == "one two three"
    assert embedded.streams.read("a/b", created.offset).text == "two three"
    assert embedded.streams.read("a/b", appended.offset).text == "three"
    assert embedded.http.get(f"/streams/a/b?offset={appended.offset}").text == "three"
    assert embedded.streams.close("a/b").closed
    assert embedded.http.get("/streams/a/b?offset=-1").headers["Stream-Closed"] == "true"
    embedded.streams.delete("a/b")
    assert embedded.http.get("/streams/a/b", status=404).json["code"] == "NOT_FOUND"


def test_json_streams_take_and_give_values(streams: Streams) -> None:
    streams.create("log", "application/json")
    first = streams.append_json("log", {"n": 1}, [2, "\u00e4\U0001f30a"])
    streams.append("log", '{"raw": 1.50}')
    page = streams.read("log")
    assert page.messages == [{"n": 1}, [2, "\u00e4\U0001f30a"], {"raw": 1.5}]
    assert b'"raw":1.50' in page.data
    assert streams.read("log", first.offset).messages == [{"raw": 1.5}]
    assert streams.append_json("log", {"last": True}, close=True).closed


def test_what_is_no_json_is_refused_and_changes_nothing(streams: Streams) -> None:
    streams.create("log", "application/json")
    for value, error in ((float("nan"), ValueError), (object(), TypeError)):
        with pytest.raises(error):
            streams.append_json("log", {"ok": 1}, value)
    assert streams.read("log").messages == []


def test_a_stream_that_is_no_json_has_no_messages(streams: Streams) -> None:
    streams.create("text", "text/plain", "{}")
    with pytest.raises(ValueError, match="text/plain has no messages"):
        _ = streams.read("text").messages


def test_creating_twice_finds_what_is_there(streams: Streams) -> None:
    assert streams.create("s", "text/plain", ttl_s=60).is_new
    again = streams.create("s", "text/plain", ttl_s=60)
    assert (again.is_new, again.ttl_s) == (False, 60)
    with pytest.raises(StreamExists):
        streams.create("s", "text/html", ttl_s=60)


def test_an_instant_of_expiry_keeps_its_meaning(streams: Streams) -> None:
    berlin = timezone(timedelta(hours=2))
    at = datetime(2100, 7, 1, 12, 30, 15, tzinfo=berlin)
    assert streams.create("s", expires_at=at).expires_at == at
    assert streams.head("s").expires_at == at.astimezone(UTC)


def test_forks_begin_with_the_bytes_of_their_source(streams: Streams) -> None:
    streams.create("source", "text/plain", "one ")
    middle = streams.append("source", "two ").offset
    streams.append("source", "three")
    streams.create("fork", fork_of="source", fork_offset=middle)
    streams.append("fork", "else")
    assert streams.read("fork").text == "one two else"
    streams.create("letters", fork_of="source", fork_offset="-1", fork_sub_offset=2)
    assert streams.read("letters").text == "on"
    streams.create("whole", fork_of="source")
    assert streams.read("whole").text == "one two three"
    streams.delete("source")
    with pytest.raises(StreamGone):
        streams.head("source")
    assert streams.read("fork").text == "one two else"


def test_messages_have_the_offset_of_their_append_where_it_is_asked_for(streams: Streams) -> None:
    assert not streams.create("plain", "application/json").message_offsets
    assert streams.create("s", "application/json", message_offsets=True).message_offsets
    appended = streams.append_json("s", {"headers": {"operation": "insert"}}, {"headers": {}})
    assert streams.read("s").messages == [
        {"headers": {"offset": appended.offset, "operation": "insert"}},
        {"headers": {}},
    ]
    assert streams.create("fork", fork_of="s").message_offsets
    assert not streams.create("other fork", fork_of="s", message_offsets=False).message_offsets
    assert streams.head("s").message_offsets


def test_a_producer_that_repeats_itself_is_recognised(streams: Streams) -> None:
    streams.create("s", "text/plain")
    once = streams.append("s", "x", producer=Producer("writer", 0, 0))
    again = streams.append("s", "x", producer=Producer("writer", 0, 0))
    assert (once.duplicate, again.duplicate) == (False, True)
    assert streams.read("s").text == "x"


def test_a_page_is_as_large_as_asked_for_and_no_larger_than_the_setting() -> None:
    embedded = Embedded(limits={"max_read_bytes": 1024})
    embedded.streams.create("s", "text/plain", "x" * 3000)
    small = embedded.streams.read("s", bytes_max=10)
    assert (len(small.data), small.up_to_date) == (10, False)
    assert len(embedded.streams.read("s", bytes_max=5000).data) == 1024
    assert sum(len(page.data) for page in embedded.streams.tail("s", idle_s=0.001)) == 3000


REFUSALS: list[tuple[Callable[[Streams], Any], type[ProtocolError]]] = [
    (lambda s: s.head("nobody"), StreamNotFound),
    (lambda s: s.read("nobody"), StreamNotFound),
    (lambda s: next(s.tail("nobody")), StreamNotFound),
    (lambda s: s.append("nobody", b"x"), StreamNotFound),
    (lambda s: s.append_json("nobody", 1), StreamNotFound),
    (lambda s: s.close("nobody"), StreamNotFound),
    (lambda s: s.delete("nobody"), StreamNotFound),
    (lambda s: s.create("f", fork_of="nobody"), StreamNotFound),
    (lambda s: s.create("a//b"), InvalidStreamName),
    (lambda s: s.append("", b"x"), InvalidStreamName),
    (lambda s: s.tail("/"), InvalidStreamName),
    (lambda s: s.create("__ds/x"), RouteNotFound),
    (lambda s: s.create("new", "nonsense"), BadRequest),
    (lambda s: s.create("new", ttl_s=-1), InvalidHeader),
    (lambda s: s.create("new", expires_at=datetime(2100, 1, 1)), InvalidHeader),
    (lambda s: s.create("new", ttl_s=1, expires_at=datetime(2100, 1, 1, tzinfo=UTC)), BadRequest),
    (lambda s: s.create("new", data=b"x" * 101), RequestBodyTooLarge),
    (lambda s: s.append("text", "x" * 101), RequestBodyTooLarge),
    (lambda s: s.append("text", "x" * 51), TooLarge),
    (lambda s: s.append("text", b""), EmptyBody),
    (lambda s: s.append_json("json"), EmptyBody),
    (lambda s: s.append("json", "[]"), EmptyArray),
    (lambda s: s.append("closed", b"x"), StreamClosed),
    (lambda s: s.append("text", b"x", seq="0"), StreamSeqRegression),
    (lambda s: s.append("text", b"x", producer=Producer("p", 0, 5)), ProducerSeqGap),
    (lambda s: s.read("text", "nonsense"), InvalidOffset),
    (lambda s: next(s.tail("text", "nonsense")), InvalidOffset),
    (lambda s: s.create("f", fork_of="text", fork_offset="now"), InvalidOffset),
]


@pytest.fixture(scope="module")
def refusing() -> Streams:
    streams = Embedded(limits={"max_request_body_bytes": 100, "max_stream_bytes": 50}).streams
    streams.create("text", "text/plain")
    streams.append("text", "x", seq="1")
    streams.append("text", "x", producer=Producer("p", 0, 0))
    streams.create("json", "application/json")
    streams.create("closed", "text/plain", closed=True)
    return streams


@pytest.mark.parametrize(
    ("call", "error"), REFUSALS, ids=[f"{number}-{row[1].__name__}" for number, row in enumerate(REFUSALS)]
)
def test_a_refusal_is_the_error_that_http_reports_and_changes_nothing(
    refusing: Streams, call: Callable[[Streams], Any], error: type[ProtocolError]
) -> None:
    with pytest.raises(error):
        call(refusing)
    assert refusing.read("text").text == "xx"
    with pytest.raises(StreamNotFound):
        refusing.head("new")


def test_content_types_never_mismatch_but_over_http(embedded: Embedded) -> None:
    embedded.streams.create("s", "Text/Plain; charset=utf-8")
    embedded.streams.append("s", "x")
    response = embedded.http.post("/streams/s", "x", headers={"Content-Type": "text/html"}, status=409)
    assert response.json["code"] == ContentTypeMismatch.code


# -- tail --------------------------------------------------------------------------------------------------------


class Following:
    """A greenlet that follows a stream."""

    def __init__(self, streams: Streams, *arguments: Any, **options: Any) -> None:
        self.tail = streams.tail(*arguments, **options)
        self.texts: list[str] = []
        self._greenlet = gevent.spawn(self._run)
        gevent.sleep(0)

    def _run(self) -> None:
        for page in self.tail:
            self.texts.append(page.text)

    def join(self) -> list[str]:
        """What it has got by its end; raises what ended it."""
        self._greenlet.get(timeout=PATIENCE_S)
        return self.texts


def test_a_tail_gives_what_is_there_and_what_comes_until_the_stream_is_closed(streams: Streams) -> None:
    streams.create("s", "text/plain", "old")
    following = Following(streams, "s")
    for word in ("new", "newer"):
        streams.append("s", word)
        gevent.sleep(0)
    end = streams.append("s", "last", close=True).offset
    assert "".join(following.join()) == "oldnewnewerlast"
    assert following.tail.offset == end


def test_a_tail_from_now_begins_where_the_stream_ends_when_it_is_first_asked(streams: Streams) -> None:
    streams.create("s", "text/plain", "old")
    following = Following(streams, "s", "now")
    streams.append("s", "new", close=True)
    assert following.join() == ["new"]


def test_a_tail_goes_on_from_the_offset_of_another(streams: Streams) -> None:
    streams.create("s", "text/plain", "one")
    first = streams.tail("s")
    assert next(first).text == "one"
    streams.append("s", "two", close=True)
    assert [page.text for page in streams.tail("s", first.offset)] == ["two"]


def test_a_tail_of_an_empty_closed_stream_is_empty(streams: Streams) -> None:
    streams.create("s", "application/json", closed=True)
    assert list(streams.tail("s")) == []


def test_a_tail_ends_when_nothing_comes(streams: Streams) -> None:
    streams.create("s", "text/plain", "x")
    assert [page.text for page in streams.tail("s", idle_s=0.01)] == ["x"]


def test_a_tail_ends_when_the_server_stops(streams: Streams) -> None:
    streams.create("s", "text/plain", "x")
    following = Following(streams, "s")
    streams.stop()
    assert following.join() == ["x"]


def test_a_tail_of_a_deleted_stream_raises_also_when_another_takes_its_name(streams: Streams) -> None:
    streams.create("s", "text/plain", "x")
    following = Following(streams, "s")
    streams.delete("s")
    streams.create("s", "text/plain", "another")
    with pytest.raises(StreamNotFound):
        following.join()
    assert following.texts == ["x"]


# -- threads, and the life of the app ------------------------------------------------------------------------------


def in_thread(function: Callable[[], Any]) -> Any:
    return gevent.get_hub().threadpool.apply(function)


def test_every_operation_works_from_another_thread(streams: Streams) -> None:
    streams.open()

    def use() -> list[str]:
        streams.create("s", "text/plain", "one ")
        streams.append("s", "two ")
        streams.append("s", "three", close=True)
        assert streams.head("s").closed
        assert streams.read("s").text == "one two three"
        texts = [page.text for page in streams.tail("s")]
        streams.delete("s")
        with pytest.raises(StreamNotFound):
            streams.head("s")
        return texts

    assert in_thread(use) == ["one two three"]


def test_a_thread_that_waits_is_woken_by_a_greenlet(streams: Streams) -> None:
    streams.create("s", "text/plain")
    waiting = gevent.get_hub().threadpool.spawn(lambda: [page.text for page in streams.tail("s")])
    while not streams._access.service.hub.watchers:
        gevent.sleep(0.001)
    streams.append("s", "here", close=True)
    assert waiting.get(timeout=PATIENCE_S) == ["here"]


def test_threads_and_greenlets_append_side_by_side(streams: Streams) -> None:
    streams.create("s", "application/json")
    pool = gevent.get_hub().threadpool
    jobs = [pool.spawn(streams.append_json, "s", ["thread", number]) for number in range(20)]
    jobs += [gevent.spawn(streams.append_json, "s", ["greenlet", number]) for number in range(20)]
    gevent.joinall(jobs, timeout=PATIENCE_S)
    expected = [[kind, number] for kind in ("greenlet", "thread") for number in range(20)]
    assert sorted(streams.read("s").messages) == expected


def test_a_thread_cannot_be_the_first_to_use_the_streams() -> None:
    streams = build_blueprint(InMemoryStorage(), Config()).streams
    with pytest.raises(Unavailable) as caught:
        in_thread(lambda: streams.create("s"))
    assert "open the streams in its thread first" in caught.value.cause


def test_after_the_stop_everything_is_unavailable(streams: Streams) -> None:
    streams.create("s", "text/plain", "x")
    streams.stop()
    streams.stop()
    for call in (
        lambda: streams.read("s"),
        lambda: streams.append("s", "x"),
        lambda: next(streams.tail("s")),
    ):
        with pytest.raises(Unavailable):
            call()


@pytest.mark.parametrize("kind", [partial(FileStorage, durable=False), AcidStorage], ids=["files", "acid"])
def test_a_directory_may_be_named_by_text(kind: Callable[[str], Storage], tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with closing(kind(str(folder))) as storage:
        storage.open()
        assert any(folder.iterdir())


PROGRAM = """
import sys
from pathlib import Path
from durable_streams import FileStorage, build_blueprint
storage = FileStorage(Path(sys.argv[1]), durable=False)
close = storage.close
def closed():
    close()
    print("closed")
storage.close = closed
streams = build_blueprint(storage).streams
streams.create("s", "text/plain", "x")
print(streams.read("s").text)
"""


def test_the_storage_is_closed_with_the_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "data")]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert (finished.stdout.split(), finished.stderr) == (["x", "closed"], "")
