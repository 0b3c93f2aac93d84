"""Compressed reads: what is chosen, what caches are told, and that no byte changes on the way."""

from __future__ import annotations

import gzip
import re
import threading
import zlib
from collections.abc import Callable
from itertools import islice

import pytest
import zstandard
from werkzeug.test import Client

from durable_streams.app import create_app
from durable_streams.config import Config
from durable_streams.eventloop.threads import in_thread
from durable_streams.web.codings import compression
from durable_streams.web.codings.compression import BODY_BYTES_MIN

TEXT = b"the same words again and again\n" * 200

DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "zstd": lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body),
}


def app_with(**http: object) -> Client:
    # WebTest decodes what it receives, so it cannot be asked here.
    app = Client(create_app(Config.model_validate({"http": http, "log": {"rust_log": "off"}})))
    app.put("/v1/stream/s", data=TEXT, headers={"Content-Type": "text/plain"})
    return app


@pytest.fixture(scope="module")
def app() -> Client:
    return app_with()


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", "gzip"),
        ("zstd", "zstd"),
        ("deflate", "deflate"),
        ("deflate, gzip", "gzip"),
        ("gzip;q=0.5, deflate", "deflate"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1.0, zstd;q=0.5", "gzip"),
        ("GZIP", "gzip"),
        ("*", "zstd"),
        ("br", None),
        ("gzip;q=0", None),
        ("identity", None),
        ("gzip;q=0.5, identity", None),
        ("gzip;q=0.5, identity;q=0.5", "gzip"),
        ("gzip, identity;q=0", "gzip"),
        ("*, zstd;q=0", "gzip"),
        ("*, zstd;q=0, gzip;q=0", "deflate"),
        ("*;q=0", None),
        ("", None),
    ],
)
def test_the_client_decides_the_coding(app: Client, accepted: str, coding: str | None) -> None:
    answer = app.get("/v1/stream/s", headers={"Accept-Encoding": accepted})
    assert answer.headers.get("Content-Encoding") == coding
    assert answer.headers.getlist("Vary") == ["Accept-Encoding"]
    body = DECODERS[coding](answer.data) if coding else answer.data
    assert body == TEXT
    assert int(answer.headers["Content-Length"]) == len(answer.data)


def test_tags_differ_by_coding_and_answer_304_each_for_itself(app: Client) -> None:
    tags = {
        coding: app.get("/v1/stream/s", headers={"Accept-Encoding": coding}).headers["ETag"]
        for coding in ("identity", *DECODERS)
    }
    assert len(set(tags.values())) == 1 + len(DECODERS)
    for coding in tags:
        for other, tag in tags.items():
            conditional = {"Accept-Encoding": coding, "If-None-Match": tag}
            answer = app.get("/v1/stream/s", headers=conditional)
            assert answer.status_code == (304 if coding == other else 200)
            assert "Accept-Encoding" in answer.headers["Vary"]
            assert bool(answer.data) == (coding != other)


def test_small_bodies_and_compressed_media_stay_as_they_are(app: Client) -> None:
    tail = app.head("/v1/stream/s").headers["Stream-Next-Offset"]
    offset = f"{tail[:17]}{len(TEXT) - BODY_BYTES_MIN + 1:015d}0"
    small = app.get(f"/v1/stream/s?offset={offset}", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in small.headers
    assert "Vary" not in small.headers
    app.put("/v1/stream/picture", data=TEXT, headers={"Content-Type": "image/png"})
    picture = app.get("/v1/stream/picture", headers={"Accept-Encoding": "gzip"})
    assert picture.data == TEXT


def test_a_list_of_origins_keeps_both_of_what_the_response_varies_by() -> None:
    app = app_with(cors_origins=["https://app.example"])
    answer = app.get("/v1/stream/s", headers={"Accept-Encoding": "gzip", "Origin": "https://app.example"})
    assert answer.headers.getlist("Vary") == ["Accept-Encoding", "Origin"]


def test_compression_can_be_turned_off() -> None:
    answer = app_with(compression=False).get("/v1/stream/s", headers={"Accept-Encoding": "gzip"})
    assert answer.data == TEXT
    assert "Vary" not in answer.headers


@pytest.mark.parametrize("coding", DECODERS)
def test_the_loop_does_not_compress(coding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    compress = compression._COMPRESS[coding]

    def noted(body: bytes) -> bytes:
        threads.append(threading.get_ident())
        return compress(body)

    monkeypatch.setitem(compression._COMPRESS, coding, noted)
    answer = app_with().get("/v1/stream/s", headers={"Accept-Encoding": coding})
    assert DECODERS[coding](answer.data) == TEXT
    assert threads
    assert threading.get_ident() not in threads


def test_event_streams_are_compressed_only_when_asked_for() -> None:
    plain = first_event(app_with(), "gzip")
    assert plain.startswith(b"event: data\n")
    # Each event can be read from what was sent so far: it was flushed.
    compressed = first_event(app_with(compress_sse=True), "gzip")
    assert same_for_all(zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(compressed)) == same_for_all(plain)
    compressed = first_event(app_with(compress_sse=True), "deflate")
    assert same_for_all(zlib.decompressobj().decompress(compressed)) == same_for_all(plain)
    compressed = first_event(app_with(compress_sse=True), "zstd")
    assert same_for_all(DECODERS["zstd"](compressed)) == same_for_all(plain)


@pytest.mark.parametrize("coding", DECODERS)
def test_the_loop_does_not_compress_large_events_either(coding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def noted(function: Callable[[bytes], bytes], event: bytes) -> bytes:
        sizes.append(len(event))
        return in_thread(function, event)

    monkeypatch.setattr(compression, "in_thread", noted)
    app = app_with(compress_sse=True)
    first_event(app, coding)
    assert sizes == []
    app.post("/v1/stream/s", data=TEXT * 3, headers={"Content-Type": "text/plain"})
    first_event(app, coding)
    assert sizes > [len(TEXT) * 3]


def first_event(app: Client, accepted: str) -> bytes:
    answer = app.get("/v1/stream/s?offset=-1&live=sse", headers={"Accept-Encoding": accepted})
    (event,) = islice(answer.response, 1)
    answer.close()
    assert isinstance(event, bytes)
    return event


def same_for_all(events: bytes) -> bytes:
    """Without what differs from server to server: cursors and lives."""
    return re.sub(rb'"streamCursor":"[0-9]+"|[0-9]{16}(?=_[0-9]{16})', b"", events)
