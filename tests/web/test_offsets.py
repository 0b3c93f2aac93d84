"""Offsets know their stream (section 8): one of a deleted and re-created stream leads nowhere, in every read mode."""

from __future__ import annotations

import pytest

from tests.web.conftest import OpenServer
from tests.web.driving import BYTES, CLOSE, JSON, TEXT, Headers, Server

MODES = ["", "&live=long-poll", "&live=sse"]
ALL_ZERO = "0000000000000000_0000000000000000"


def after(offset: str) -> str:
    """What the official Yjs layer asks for: the second field plus one, as wide as it was."""
    life, _, position = offset.partition("_")
    return f"{life}_{int(position) + 1:0{len(position)}d}"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream", "application/json"])
def test_an_offset_of_a_stream_that_was_created_anew_is_gone(
    server: Server, mode: str, content_type: str
) -> None:
    kind = {"Content-Type": content_type}
    server.put("s", b"[1,2]", kind)
    kept = [server.tail("s"), server.offset("s", 0)]
    server.delete("s")
    assert server.get(f"s?offset={kept[0]}{mode}").status_int == 404
    server.put("s", b"[3,4,5,6]", {**kind, **CLOSE})
    for offset in kept:
        answer = server.get(f"s?offset={offset}{mode}")
        assert (answer.status_int, answer.json["type"]) == (410, "/errors/offset-gone")
        assert answer.json["code"] == "OFFSET_GONE"
        assert answer.headers["Cache-Control"] == "no-store"
    # The start has names of its own, which every stream knows.
    for offset in ("-1", ALL_ZERO):
        assert server.get(f"s?offset={offset}").status_int == 200


def test_a_last_event_id_of_a_stream_that_was_created_anew_is_gone(server: Server) -> None:
    server.put("s", b"old", TEXT)
    last_id = server.tail("s")
    server.delete("s")
    server.put("s", b"new and longer", {**TEXT, **CLOSE})
    for offset in ("-1", "now", server.tail("s")):
        answer = server.get(f"s?offset={offset}&live=sse", {"Last-Event-ID": last_id})
        assert (answer.status_int, answer.json["code"]) == (410, "OFFSET_GONE")


def test_an_offset_of_a_stream_that_has_expired_is_gone_from_its_successor(server: Server) -> None:
    server.put("s", b"abc", {**TEXT, "Stream-TTL": "10"})
    kept = server.tail("s")
    server.clock.now += 10
    server.put("s", b"abcdef", TEXT)
    assert server.get(f"s?offset={kept}").status_int == 410


def test_a_stream_created_anew_within_a_microsecond_is_another(server: Server) -> None:
    tails = []
    for _ in range(5):
        assert server.put("s", b"abc", TEXT).status_int == 201
        tails.append(server.tail("s"))
        server.delete("s")
    # Backwards, as a clock that is set right goes.
    server.clock.now -= 3600
    server.put("s", b"abcdef", TEXT)
    assert len({*tails, server.tail("s")}) == 6
    assert [server.get(f"s?offset={tail}").status_int for tail in tails] == [410] * 5


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", [TEXT, BYTES, JSON])
def test_one_past_an_offset_is_that_offset(server: Server, mode: str, kind: Headers) -> None:
    server.put("s", b"[1,22]", kind)
    middle = server.tail("s")
    server.post("s", b"[333]", {**kind, **CLOSE})
    for offset in (middle, server.tail("s"), ALL_ZERO):
        asked, exact = server.get(f"s?offset={after(offset)}{mode}"), server.get(f"s?offset={offset}{mode}")
        assert asked.status_int == exact.status_int
        assert asked.status_int in (200, 204)
        assert asked.body == exact.body
        assert (
            asked.headers["Stream-Next-Offset"] == exact.headers["Stream-Next-Offset"] if not mode else True
        )


def test_no_offset_past_the_tail_is_rounded_into_the_stream(server: Server) -> None:
    server.put("s", b"abc", TEXT)
    assert server.get(f"s?offset={server.offset('s', 4)}").json["code"] == "INVALID_OFFSET"


def test_every_answer_names_offsets_of_its_own_stream(server: Server) -> None:
    answers = [server.put("s", b"[1]", JSON), server.put("s", b"[1]", JSON), server.post("s", b"[2]", JSON)]
    answers += [
        server.head("s"),
        server.get("s"),
        server.get("s?offset=now"),
        server.post("s", headers=CLOSE),
    ]
    answers += [server.post("s", b"[3]", JSON), server.get(f"s?offset={server.tail('s')}&live=long-poll")]
    lives = {answer.headers["Stream-Next-Offset"].partition("_")[0] for answer in answers}
    assert len(lives) == 1
    (life,) = lives
    assert int(life) == server.clock.now * 1_000_000
    events = server.reading("s?offset=-1&live=sse").events()
    assert {event.id.partition("_")[0] for event in events} == {life}


# -- forks -------------------------------------------------------------------------------------------------------


def test_a_fork_has_its_sources_offsets_up_to_the_fork_point_and_then_its_own(server: Server) -> None:
    first = server.put("s", b"abc", TEXT).headers["Stream-Next-Offset"]
    middle = server.post("s", b"def", TEXT).headers["Stream-Next-Offset"]
    end = server.post("s", b"ghi", TEXT).headers["Stream-Next-Offset"]
    made = server.put("f", headers={"Stream-Forked-From": "s", "Stream-Fork-Offset": middle})
    assert made.headers["Stream-Next-Offset"] == middle == server.tail("f")
    own = server.post("f", b"xyz", TEXT).headers["Stream-Next-Offset"]
    assert first < middle < end < own == server.tail("f")
    assert server.get(f"f?offset={first}").body == b"defxyz"
    assert server.get(f"f?offset={middle}").body == b"xyz"
    assert server.get(f"f?offset={own}").body == b""
    # The source went on to where the fork has never been, and the other way round.
    assert server.get(f"f?offset={end}").status_int == 410
    assert server.get(f"s?offset={own}").json["code"] == "INVALID_OFFSET"
    # Asked again in the same words it is the same fork.
    assert (
        server.put("f", headers={"Stream-Forked-From": "s", "Stream-Fork-Offset": middle}).status_int == 200
    )
    assert server.put("f", headers={"Stream-Forked-From": "s", "Stream-Fork-Offset": own}).status_int == 409


def test_pages_of_a_fork_go_from_its_sources_offsets_to_its_own(open_server: OpenServer) -> None:
    server = open_server(limits={"max_read_bytes": 4})
    server.put("s", b"abcdef", TEXT)
    server.put("f", b"uvwxyz", {"Stream-Forked-From": "s"})
    source, fork = server.tail("s")[:16], server.tail("f")[:16]
    offsets = ["-1"]
    read = b""
    while offsets[-1] != server.tail("f"):
        page = server.get(f"f?offset={offsets[-1]}")
        read += page.body
        offsets.append(page.headers["Stream-Next-Offset"])
    assert read == b"abcdefuvwxyz"
    assert [offset[:16] for offset in offsets[1:]] == [source, fork, fork]
    events = server.reading("f?offset=-1&live=sse")
    assert events.caught_up()[-1].id == server.tail("f")


def test_a_fork_that_was_created_anew_knows_its_sources_offsets_and_not_its_own_earlier_ones(
    server: Server,
) -> None:
    inherited = server.put("s", b"abc", TEXT).headers["Stream-Next-Offset"]
    server.put("f", b"old", {"Stream-Forked-From": "s"})
    own = server.tail("f")
    server.delete("f")
    server.put("f", b"newer", {"Stream-Forked-From": "s"})
    assert server.get(f"f?offset={own}").status_int == 410
    assert server.get(f"f?offset={inherited}").body == b"newer"


def test_a_stream_that_was_no_fork_before_leaves_no_offsets_to_the_fork_of_its_name(server: Server) -> None:
    server.put("s", b"abcdef", TEXT)
    kept = server.put("f", b"123", TEXT).headers["Stream-Next-Offset"]
    server.delete("f")
    server.put("f", headers={"Stream-Forked-From": "s"})
    # Its position lies in what the fork inherits, and its life between those of source and fork.
    assert server.get(f"f?offset={kept}").status_int == 410
    # Nor may it say where another fork begins.
    for source in ("s", "f"):
        headers = {"Stream-Forked-From": source, "Stream-Fork-Offset": kept}
        assert server.put("g", headers=headers).status_int in (400, 410)


def test_a_fork_may_be_made_at_any_offset_that_its_source_gives_out(server: Server) -> None:
    server.put("a", b"abc", TEXT)
    server.put("b", b"def", {"Stream-Forked-From": "a"})
    server.put("c", b"ghi", {"Stream-Forked-From": "b"})
    content = b"abcdefghi"
    for position in range(len(content) + 1):
        headers = {"Stream-Forked-From": "c", "Stream-Fork-Offset": server.offset("c", position)}
        assert server.put(f"at {position}", headers=headers).status_int == 201
        assert server.get(f"at {position}").body == content[:position]
        assert server.tail(f"at {position}") == server.offset("c", position)
