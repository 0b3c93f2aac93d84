"""Compressed pages are made once for all who ask for them, within the limits on work at once and on memory."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import gevent
import pytest
from gevent.event import Event

from durable_streams.streams import reading
from durable_streams.web.codings import compression, pages
from durable_streams.web.codings.pages import ENTRY_BYTES, PageCache
from tests.web.conftest import OpenServer
from tests.web.driving import CLOSE, TEXT, Headers, Server

BODY = b"the same words again and again\n" * 200
GZIP = {"Accept-Encoding": "gzip"}
PAGE = bytes(1000)
CACHE_BYTES = 8 * (1000 + ENTRY_BYTES)
"""Room for eight such pages, of which each may take an eighth."""


class Compressions:
    """What is given to threads: how much of it, how much at once, and when it may end."""

    def __init__(self) -> None:
        self.count = self.running = self.most = 0
        self.may_end = Event()
        self.may_end.set()

    def run(self, function: Callable[[bytes], bytes], body: bytes) -> bytes:
        self.count += 1
        self.running += 1
        self.most = max(self.most, self.running)
        self.may_end.wait()
        self.running -= 1
        return function(body)


@pytest.fixture
def compressions(monkeypatch: pytest.MonkeyPatch) -> Compressions:
    made = Compressions()
    monkeypatch.setattr(compression, "in_thread", made.run)
    return made


def kept(cache: PageCache, *tags: str) -> list[str]:
    return [tag for tag in tags if cache.find(tag) is not None]


def keep(cache: PageCache, tag: str, page: bytes = PAGE) -> None:
    for _ in range(2):
        cache.ask(tag)
    cache.keep(tag, page)


def test_a_page_is_kept_from_its_second_request_on() -> None:
    cache = PageCache(CACHE_BYTES)
    assert cache.ask("a") is None
    cache.keep("a", PAGE)
    assert cache.find("a") is None
    assert cache.ask("a") is None
    cache.keep("a", PAGE)
    assert cache.ask("a") is PAGE
    assert cache.total == 1000 + ENTRY_BYTES


def test_the_least_recently_used_page_goes_first() -> None:
    cache = PageCache(CACHE_BYTES)
    for tag in "abcdefgh":
        keep(cache, tag)
    cache.ask("a")
    keep(cache, "i")
    assert kept(cache, *"abcdefghi") == [*"acdefghi"]
    assert cache.total == CACHE_BYTES


@pytest.mark.parametrize(("bytes_max", "page"), [(CACHE_BYTES, bytes(1001)), (0, b""), (100, b"")])
def test_a_page_that_is_too_long_is_not_kept(bytes_max: int, page: bytes) -> None:
    cache = PageCache(bytes_max)
    keep(cache, "a", page)
    assert (cache.find("a"), cache.total) == (None, 0)


def test_requests_are_remembered_for_a_limited_number_of_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "TAGS_REMEMBERED", 2)
    cache = PageCache(CACHE_BYTES)
    for tag in "abc":
        cache.ask(tag)
    for tag in "ca":
        cache.ask(tag)
        cache.keep(tag, PAGE)
    assert kept(cache, *"abc") == ["c"]


def test_recordings_are_few_and_short() -> None:
    cache = PageCache(CACHE_BYTES)
    for tag in "abcdef":
        cache.ask(tag)
        assert cache.record(tag) is None
        cache.ask(tag)
    recordings = []
    for tag in "abcd":
        recording = cache.record(tag)
        assert recording is not None
        recordings.append(recording.__enter__())
    assert cache.record("a") is cache.record("e") is None
    for recording, sizes in zip(recordings, ((500, 500), (500, 501), (1001, 1), (0,)), strict=True):
        for size in sizes:
            recording.add(bytes(size))
        recording.keep()
        recording.__exit__(None, None, None)
    assert kept(cache, *"abcd") == ["a", "d"]
    assert cache.record("e") is not None


def test_only_the_first_readers_of_a_page_cost_a_compression(
    server: Server, compressions: Compressions
) -> None:
    server.put("s", BODY, {**TEXT, **CLOSE})
    readers = []
    for _ in range(5):
        readers.append(server.reading("s", GZIP))
        assert gzip.decompress(readers[-1].rest()) == BODY
    assert compressions.count == 2
    assert [reader.headers for reader in readers[1:]] == [readers[0].headers] * 4


def test_another_range_or_another_stream_is_another_page(server: Server) -> None:
    server.put("s", BODY, TEXT)
    for _ in range(3):
        assert server.get("s", GZIP).body == BODY
    assert server.get(f"s?offset={server.offset('s', 31)}", GZIP).body == BODY[31:]
    server.post("s", b"more", TEXT)
    assert server.get("s", GZIP).body == BODY + b"more"
    server.delete("s")
    server.put("s", BODY[::-1], TEXT)
    assert server.get("s", GZIP).body == BODY[::-1]


def test_those_who_ask_at_once_share_one_compression(server: Server, compressions: Compressions) -> None:
    server.put("s", BODY, TEXT)
    compressions.may_end.clear()
    readers = [server.reading("s", GZIP) for _ in range(20)]
    compressions.may_end.set()
    assert {gzip.decompress(reader.rest()) for reader in readers} == {BODY}
    # The second had its turn beside the first.
    assert compressions.count == 2


@pytest.mark.parametrize("at_once", [1, 3])
def test_so_many_are_compressed_at_once(
    open_server: OpenServer, compressions: Compressions, at_once: int
) -> None:
    server = open_server(limits={"max_compressions": at_once, "max_compressed_cache_bytes": 0})
    server.put("s", BODY, TEXT)
    compressions.may_end.clear()
    readers = [server.reading("s", GZIP) for _ in range(6)]
    gevent.sleep(0)
    assert compressions.running == at_once
    compressions.may_end.set()
    assert {gzip.decompress(reader.rest()) for reader in readers} == {BODY}
    assert (compressions.count, compressions.most) == (6, at_once)


@pytest.fixture
def long_page(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(reading, "PAGE_PIECE_BYTES", 1000)
    server.put("s", BODY, TEXT)
    return server


def whole_answer(server: Server) -> tuple[Headers, bytes]:
    reader = server.reading("s", GZIP)
    return reader.headers, reader.rest()


def test_an_answer_in_pieces_is_kept_when_all_of_it_was_sent(long_page: Server) -> None:
    for _ in range(2):
        headers, body = whole_answer(long_page)
        assert "Content-Length" not in headers
    assert gzip.decompress(body) == BODY
    assert whole_answer(long_page) == ({**headers, "Content-Length": str(len(body))}, body)


def test_an_answer_that_was_not_sent_to_its_end_is_not_kept(long_page: Server) -> None:
    whole_answer(long_page)
    left = long_page.reading("s", GZIP)
    left.leave()
    begun = left.rest()
    for has_length in (False, True):
        headers, body = whole_answer(long_page)
        assert ("Content-Length" in headers, gzip.decompress(body)) == (has_length, BODY)
    assert len(begun) < len(body)
