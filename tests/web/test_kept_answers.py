"""Answers that are given again: only while the stream is the same, only what is the same for all who ask so."""

from __future__ import annotations

import pytest

from durable_streams.protocol.state import NO_EXPIRY, StreamConfig, StreamState
from durable_streams.streams.store import Page
from durable_streams.web.reads.kept_answers import (
    ANSWERS_KEPT,
    BODY_BYTES_MAX,
    VALUE_CHARACTERS_MAX,
    KeptAnswers,
    key_of,
)
from durable_streams.web.response import Response
from tests.web.driving import CLOSE, TEXT, Server


def state() -> StreamState:
    return StreamState(StreamConfig("s", "uid", "text/plain", NO_EXPIRY, None, 1), 3, 0.0)


@pytest.fixture
def reads(server: Server, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where each read of the storage has begun."""
    began: list[int] = []
    read = server.store.read

    def noted(state: StreamState, start: int, bytes_max: int | None) -> Page:
        began.append(start)
        return read(state, start, bytes_max)

    monkeypatch.setattr(server.store, "read", noted)
    return began


def seen(answer: object) -> tuple[int, list[tuple[str, str]], bytes]:
    return answer.status_int, list(answer.headers.items()), answer.body  # type: ignore[attr-defined]


def test_the_second_answer_is_the_first_one(server: Server, reads: list[int]) -> None:
    server.put("s", b"abc", TEXT)
    assert seen(server.get("s")) == seen(server.get("s"))
    assert reads == [0]


def test_every_change_of_the_stream_is_seen_at_once(server: Server) -> None:
    server.put("s", b"abc", TEXT)
    assert server.get("s").body == server.get("s").body == b"abc"
    server.post("s", b"def", TEXT)
    assert server.get("s").body == server.get("s").body == b"abcdef"
    server.post("s", headers=CLOSE)
    for _ in range(2):
        assert server.get("s").headers["Stream-Closed"] == "true"
    server.delete("s")
    assert server.get("s").status_int == 404
    server.put("s", b"new", TEXT)
    assert server.get("s").body == b"new"


def test_answers_differ_by_query_tag_and_coding(server: Server) -> None:
    server.put("s", b"abc", TEXT)
    whole, tail = server.get("s"), server.get("s?offset=now")
    assert (whole.body, tail.body) == (b"abc", b"")
    tag = {"If-None-Match": whole.headers["ETag"]}
    for _ in range(2):
        assert server.get("s", headers=tag).status_int == 304
        assert server.get("s").body == b"abc"
        assert server.get("s?offset=now").headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("header", [{"Stream-TTL": "60"}, {"Stream-Expires-At": "2099-01-01T00:00:00Z"}])
def test_a_stream_that_expires_is_read_anew(server: Server, reads: list[int], header: dict[str, str]) -> None:
    server.put("s", b"abc", {**TEXT, **header})
    server.get("s")
    server.get("s")
    assert reads == [0, 0]


def test_what_is_kept_is_bounded() -> None:
    answers, here = KeptAnswers(), state()
    for number in range(ANSWERS_KEPT + 10):
        answers.keep(key_of(f"s{number}", {}), here, Response(200, [], b"x"))
    assert len(answers._kept) == ANSWERS_KEPT
    assert answers.find(key_of("s0", {}), here) is None
    assert answers.find(key_of(f"s{ANSWERS_KEPT}", {}), here) is not None


@pytest.mark.parametrize(
    ("environ", "response"),
    [
        ({}, Response(200, [], b"x" * (BODY_BYTES_MAX + 1))),
        ({}, Response(200, [], iter([b"x"]))),
        ({}, Response(200, [("Content-Encoding", "gzip")], b"x")),
        ({"QUERY_STRING": "x" * (VALUE_CHARACTERS_MAX + 1)}, Response(200, [], b"x")),
        ({"HTTP_IF_NONE_MATCH": "x" * (VALUE_CHARACTERS_MAX + 1)}, Response(304, [], b"")),
    ],
)
def test_only_what_is_small_and_plain_is_kept(environ: dict[str, str], response: Response) -> None:
    answers, here = KeptAnswers(), state()
    answers.keep(key_of("s", environ), here, response)
    assert answers.find(key_of("s", environ), here) is None


def test_another_state_of_the_stream_is_another_answer() -> None:
    answers, here = KeptAnswers(), state()
    answers.keep(key_of("s", {}), here, Response(200, [], b"x"))
    assert answers.find(key_of("s", {}), here) is not None
    assert answers.find(key_of("s", {}), state()) is None
