"""Catch-up reads and HEAD (sections 5.5, 5.6 and 10): pages, marks, entity tags, and what caches are told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.web.conftest import OpenServer
from tests.web.driving import BYTES, CLOSE, JSON, TEXT, Headers, Server

START_OFFSET = "0000000000000000_0000000000000000"


@pytest.fixture
def paged(open_server: OpenServer) -> Server:
    """Ten bytes a page."""
    return open_server(limits={"max_read_bytes": 10})


def marks(answer: Any) -> set[str]:
    """The presence headers; any value but ``true`` is a mistake."""
    found = {name for name in ("Stream-Up-To-Date", "Stream-Closed") if name in answer.headers}
    assert {answer.headers[name] for name in found} <= {"true"}
    return found


def pages(server: Server, name: str) -> list[Any]:
    """The answers of a client that reads from the start to the tail."""
    answers = [server.get(name)]
    while "Stream-Up-To-Date" not in answers[-1].headers:
        answers.append(server.get(f"{name}?offset={answers[-1].headers['Stream-Next-Offset']}"))
    return answers


def test_only_the_page_that_reaches_the_tail_is_marked(paged: Server) -> None:
    paged.put("s", b"0123456789abcdefghij", TEXT)
    first, last = pages(paged, "s")
    assert (first.body, marks(first)) == (b"0123456789", set())
    assert (last.body, marks(last)) == (b"abcdefghij", {"Stream-Up-To-Date"})
    assert last.headers["Stream-Next-Offset"] == paged.tail("s")
    paged.post("s", headers=CLOSE)
    first, last = pages(paged, "s")
    assert (marks(first), marks(last)) == (set(), {"Stream-Up-To-Date", "Stream-Closed"})


def test_a_read_at_the_tail_is_empty_and_says_whether_more_can_come(server: Server) -> None:
    server.put("s", b"abc", TEXT)
    tail = server.tail("s")
    for expected in ({"Stream-Up-To-Date"}, {"Stream-Up-To-Date", "Stream-Closed"}):
        answer = server.get(f"s?offset={tail}")
        assert (answer.status_int, answer.body, marks(answer)) == (200, b"", expected)
        assert answer.headers["Stream-Next-Offset"] == tail
        server.post("s", headers=CLOSE)


def test_json_pages_hold_whole_messages_and_at_least_one(paged: Server) -> None:
    messages = [1, 22, "a message that is longer than a page", 3, [4], {"five": 5}, 6]
    paged.put("s", b"[]", JSON)
    for message in messages:
        paged.post("s", json.dumps([message]).encode(), JSON)
    answers = pages(paged, "s")
    assert [message for answer in answers for message in answer.json] == messages
    assert len(answers) > 3
    assert all(answer.json for answer in answers)


def test_json_messages_are_joined_by_commas_alone_in_every_read_mode(server: Server) -> None:
    """The very text, since there are clients that hand it on as it is."""
    server.put("s", headers=JSON)
    server.post("s", b'{"msg": "first"}', JSON)
    server.post("s", b'[ {"msg" : "second, and more"},\r\n\t{ "n": [1.50, 2] } ]', {**JSON, **CLOSE})
    text = '[{"msg":"first"},{"msg":"second, and more"},{"n":[1.50,2]}]'
    for query in ("", "?offset=-1", "?offset=-1&live=long-poll"):
        assert server.get(f"s{query}").text == text
    data, control = server.reading("s?offset=-1&live=sse").rest().split(b"\n\n")[:2]
    assert data.startswith(b"event: data\ndata:" + text.encode() + b"\nid: ")
    assert control.startswith(b"event: control\ndata:")


def test_an_empty_json_page_is_an_empty_array(server: Server) -> None:
    server.put("s", b"[]", JSON)
    assert server.get("s").body == b"[]"
    server.post("s", b"1", JSON)
    assert server.get(f"s?offset={server.tail('s')}").body == b"[]"


def test_a_fork_is_paged_over_the_seam(paged: Server) -> None:
    paged.put("s", b"01234567", TEXT)
    paged.put("f", b"abcdefgh", {"Stream-Forked-From": "s"})
    assert [answer.body for answer in pages(paged, "f")] == [b"01234567ab", b"cdefgh"]


WRONG_OFFSETS = [
    "",
    "0",
    "abc",
    "NOW",
    "-2",
    " -1",
    "0000000000000000_000000000000000",
    "0000000000000000_00000000000000000",
    "0000000000000000_000000000000000a",
    "0000000000000000-0000000000000000",
    "9999999999999999_0000000000000000",
    "9999999999999999_9999999999999999",
    "%D9%A0" * 33,
    "0000000000000000_0000000000000000%00",
    "../etc/passwd",
    "9" * 5000,
]


@pytest.mark.parametrize("offset", WRONG_OFFSETS)
@pytest.mark.parametrize("live", ["", "&live=long-poll", "&live=sse"])
def test_an_offset_that_was_never_given_out_is_refused(server: Server, offset: str, live: str) -> None:
    server.put("s", b"abc", TEXT)
    answer = server.get(f"s?offset={offset}{live}")
    assert (answer.status_int, answer.json["code"]) == (400, "INVALID_OFFSET")
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("live", ["", "&live=long-poll", "&live=sse"])
def test_an_offset_inside_a_json_message_is_refused(server: Server, live: str) -> None:
    server.put("s", b'["abc","def"]', JSON)
    assert server.get(f"s?offset={server.offset('s', 3)}{live}").json["code"] == "INVALID_OFFSET"


def test_the_start_has_three_names(server: Server) -> None:
    server.put("s", b"abc", TEXT)
    assert {server.get(f"s{query}").body for query in ("", "?offset=-1", f"?offset={START_OFFSET}")} == {
        b"abc"
    }


def test_now_is_the_tail_and_is_never_cached(server: Server) -> None:
    server.put("s", b"abc", TEXT)
    answer = server.get("s?offset=now")
    assert (answer.status_int, answer.body, marks(answer)) == (200, b"", {"Stream-Up-To-Date"})
    assert answer.headers["Stream-Next-Offset"] == server.tail("s")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "ETag" not in answer.headers
    assert server.get("s?offset=now", {"If-None-Match": "*"}).status_int == 200
    server.put("j", b"[1]", {**JSON, **CLOSE})
    answer = server.get("j?offset=now")
    assert (answer.body, marks(answer)) == (b"[]", {"Stream-Up-To-Date", "Stream-Closed"})


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("offset=-1&offset=-1", "INVALID_OFFSET"),
        ("offset=-1&off%73et=now", "INVALID_OFFSET"),
        ("offset=-1&live=ws", "BAD_REQUEST"),
        ("offset=-1&live=", "BAD_REQUEST"),
        ("offset=-1&live=SSE", "BAD_REQUEST"),
        ("offset=%ff", "INVALID_OFFSET"),
        ("offset=-1&live=%ff", "BAD_REQUEST"),
        ("offset=-1&live=sse&live=sse", "BAD_REQUEST"),
        ("live=long-poll", "BAD_REQUEST"),
        ("live=sse", "BAD_REQUEST"),
        ("offset=-1&live=long-poll&cursor=1&cursor=2", "BAD_REQUEST"),
    ],
)
def test_wrong_queries_are_refused(server: Server, query: str, code: str) -> None:
    server.put("s", b"abc", TEXT)
    answer = server.get(f"s?{query}")
    assert (answer.status_int, answer.json["code"]) == (400, code)
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_parameters_that_a_read_does_not_know_are_ignored(server: Server) -> None:
    server.put("s", b"abc", TEXT)
    assert server.get("s?x=1&x=2&&=&offset=%2D1&utm_source=a%20b").body == b"abc"


# -- entity tags -------------------------------------------------------------------------------------------------


def test_tags_differ_by_uid_start_end_and_closure(server: Server) -> None:
    tags = []

    def note(offset: str = "-1") -> None:
        tags.append(server.get(f"s?offset={offset}").headers["ETag"])

    server.put("s", b"abc", TEXT)
    note()
    note(server.tail("s"))
    server.post("s", b"def", TEXT)
    note()
    server.post("s", headers=CLOSE)
    note()
    note(server.tail("s"))
    server.delete("s")
    server.put("s", b"abc", TEXT)
    note()
    assert len(set(tags)) == len(tags)
    assert all(tag.startswith('"') and tag.endswith('"') for tag in tags)


def test_a_page_before_the_tail_keeps_its_tag_when_the_stream_grows_or_closes(paged: Server) -> None:
    paged.put("s", b"0123456789a", TEXT)
    tag = paged.get("s").headers["ETag"]
    paged.post("s", b"more", {**TEXT, **CLOSE})
    assert paged.get("s").headers["ETag"] == tag


def test_a_closure_without_data_is_not_hidden_by_304(server: Server) -> None:
    for at_tail in (False, True):
        server.put("s", b"abc", TEXT)
        offset = server.tail("s") if at_tail else "-1"
        tag = server.get(f"s?offset={offset}").headers["ETag"]
        assert server.get(f"s?offset={offset}", {"If-None-Match": tag}).status_int == 304
        server.post("s", headers=CLOSE)
        answer = server.get(f"s?offset={offset}", {"If-None-Match": tag})
        assert (answer.status_int, answer.headers["Stream-Closed"]) == (200, "true")
        server.delete("s")


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ("{tag}", 304),
        ("W/{tag}", 304),
        ('"other", {tag}', 304),
        ('{tag},W/"x"', 304),
        (' "a" ,  {tag} ', 304),
        ("*", 304),
        ('"other"', 200),
        ('W/"other"', 200),
        ("", 200),
        ("garbage", 200),
        ("{bare}", 200),
    ],
)
def test_every_form_of_if_none_match(server: Server, form: str, status: int) -> None:
    server.put("s", b"abc", {**TEXT, **CLOSE})
    plain = server.get("s")
    tag = plain.headers["ETag"]
    answer = server.get("s", {"If-None-Match": form.format(tag=tag, bare=tag.strip('"'))})
    assert answer.status_int == status
    for name in ("ETag", "Cache-Control", "Stream-Next-Offset", "Stream-Up-To-Date", "Stream-Closed"):
        assert answer.headers[name] == plain.headers[name]
    assert answer.body == (b"" if status == 304 else b"abc")


CACHED = "public, max-age=60, stale-while-revalidate=300"


@pytest.mark.parametrize(
    ("headers", "cache_control"),
    [
        ({}, CACHED),
        ({"Stream-TTL": "30"}, "public, max-age=30"),
        ({"Stream-TTL": "0"}, None),
        ({"Stream-TTL": "86400"}, CACHED),
        ({"Stream-Expires-At": "2027-01-15T08:00:40Z"}, "public, max-age=40"),
        ({"Stream-Expires-At": "2030-01-01T00:00:00Z"}, CACHED),
    ],
)
def test_caches_keep_a_page_no_longer_than_the_stream_lives(
    server: Server, headers: Headers, cache_control: str | None
) -> None:
    server.put("s", b"abc", {**TEXT, **headers})
    answer = server.get("s")
    if cache_control is None:
        assert answer.status_int == 404
    else:
        assert answer.headers["Cache-Control"] == cache_control


@pytest.mark.parametrize("headers", [TEXT, JSON])
def test_an_empty_page_is_not_cached_while_the_stream_is_open(server: Server, headers: Headers) -> None:
    server.put("s", b"" if headers is TEXT else b"[]", headers)
    for offset in ("-1", server.tail("s"), START_OFFSET):
        answer = server.get(f"s?offset={offset}")
        assert answer.headers["Cache-Control"] == "no-store"
        again = server.get(f"s?offset={offset}", {"If-None-Match": answer.headers["ETag"]})
        assert (again.status_int, again.headers["Cache-Control"]) == (304, "no-store")
    server.post("s", b"", CLOSE)
    assert server.get("s").headers["Cache-Control"] == CACHED


def test_a_setting_makes_pages_private(open_server: OpenServer) -> None:
    server = open_server(http={"cache_visibility": "private"})
    server.put("s", b"abc", TEXT)
    assert server.get("s").headers["Cache-Control"] == CACHED.replace("public", "private")


# -- HEAD --------------------------------------------------------------------------------------------------------


def test_head_tells_what_is_known_and_is_never_cached(server: Server) -> None:
    server.put("s", b"abc", {"Content-Type": "text/plain; charset=utf-8", "Stream-TTL": "60"})
    server.clock.now += 25
    answer = server.head("s")
    assert (answer.status_int, answer.body) == (200, b"")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    # The window, not what is left of it.
    assert answer.headers["Stream-TTL"] == "60"
    assert "Stream-Expires-At" not in answer.headers
    assert "Stream-Closed" not in answer.headers
    assert "Content-Length" not in answer.headers
    server.post("s", headers=CLOSE)
    assert server.head("s").headers["Stream-Closed"] == "true"


def test_head_gives_the_deadline_as_it_was_written(server: Server) -> None:
    server.put("s", headers={**BYTES, "Stream-Expires-At": "2030-01-01T02:00:00.5+02:00"})
    answer = server.head("s")
    assert answer.headers["Stream-Expires-At"] == "2030-01-01T02:00:00.5+02:00"
    assert "Stream-TTL" not in answer.headers


@pytest.mark.parametrize(
    ("target", "status"),
    [("nobody", 404), ("a//b", 400), ("/elsewhere", 404), ("x" * 1025, 400)],
)
def test_an_error_to_head_is_not_cached_either_and_has_no_body(
    server: Server, target: str, status: int
) -> None:
    answer = server.head(target)
    assert (answer.status_int, answer.body) == (status, b"")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "application/problem+json"


# -- DELETE ------------------------------------------------------------------------------------------------------


def test_a_deleted_stream_is_gone_and_its_name_free(server: Server) -> None:
    server.put("s", b"abc", TEXT)
    answer = server.delete("s")
    assert (answer.status_int, answer.body) == (204, b"")
    for method in ("GET", "HEAD", "POST", "DELETE"):
        assert server.request(method, "s", b"x" if method == "POST" else b"", TEXT).status_int == 404
    assert server.put("s", b"new", JSON | BYTES).status_int == 201
    assert server.get("s").body == b"new"
