"""PUT (section 5.1, and 4.2 for forks): what is answered, and what a second PUT is compared with."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from durable_streams.protocol.offsets import format_offset
from tests.web.driving import BASE, CLOSE, JSON, START, TEXT, Headers, Server

ZERO = "0000000000000000_0000000000000000"
FIRST_LIFE = int(START) * 1_000_000
"""Of the first stream that a server creates here."""
BEYOND = format_offset(FIRST_LIFE, 99)
INSTANT = "2027-06-01T00:00:00Z"


def test_a_new_stream_is_answered_with_its_place_its_type_and_its_tail(server: Server) -> None:
    answer = server.put("a/b", b"hello", {"Content-Type": "Text/Plain; charset=UTF-8"})
    assert answer.status_int == 201
    assert answer.headers["Location"] == f"http://localhost:80{BASE}a/b"
    assert answer.headers["Content-Type"] == "Text/Plain; charset=UTF-8"
    assert answer.headers["Stream-Next-Offset"] == server.tail("a/b") != format_offset(FIRST_LIFE, 0)
    assert "Stream-Closed" not in answer.headers
    assert answer.body == b""
    assert server.get("a/b").body == b"hello"


def test_the_location_is_what_was_asked_for_percent_encoded(server: Server) -> None:
    answer = server.request("PUT", "%C3%A4%20%3F", headers={"Host": "streams.example:8080"})
    assert answer.headers["Location"] == f"http://streams.example:8080{BASE}%C3%A4%20%3F"


def test_an_absent_content_type_is_octet_stream(server: Server) -> None:
    assert server.put("s").headers["Content-Type"] == "application/octet-stream"
    assert server.put("s", headers={"Content-Type": "application/octet-stream"}).status_int == 200


@pytest.mark.parametrize("value", ["", "  ", "text", "text/", "/plain", "text/plain extra", "a b/c", "t;x=y"])
def test_a_content_type_that_is_none_is_refused(server: Server, value: str) -> None:
    assert server.put("s", headers={"Content-Type": value}).json["code"] == "BAD_REQUEST"
    assert server.head("s").status_int == 404


def test_a_stream_can_be_created_closed(server: Server) -> None:
    answer = server.put("s", b"all", {**TEXT, "Stream-Closed": "TRUE"})
    assert (answer.status_int, answer.headers["Stream-Closed"]) == (201, "true")
    read = server.get("s")
    assert (read.body, read.headers["Stream-Closed"]) == (b"all", "true")


@pytest.mark.parametrize("value", ["false", "yes", "1", "", "true,true"])
def test_any_other_value_of_stream_closed_is_as_if_it_were_absent(server: Server, value: str) -> None:
    answer = server.put("s", headers={"Stream-Closed": value})
    assert answer.status_int == 201
    assert "Stream-Closed" not in answer.headers
    assert server.put("s").status_int == 200


AGAIN: list[tuple[Headers, Headers, int]] = [
    (TEXT, TEXT, 200),
    (TEXT, {"Content-Type": "TEXT/PLAIN; charset=latin-1"}, 200),
    (TEXT, JSON, 409),
    (TEXT, {}, 409),
    (TEXT, {**TEXT, **CLOSE}, 409),
    ({**TEXT, **CLOSE}, TEXT, 409),
    ({**TEXT, **CLOSE}, {**TEXT, **CLOSE}, 200),
    ({"Stream-TTL": "60"}, {"Stream-TTL": "60"}, 200),
    ({"Stream-TTL": "60"}, {"Stream-TTL": "61"}, 409),
    ({"Stream-TTL": "60"}, {}, 409),
    ({}, {"Stream-TTL": "60"}, 409),
    ({"Stream-TTL": "60"}, {"Stream-Expires-At": INSTANT}, 409),
    ({"Stream-Expires-At": INSTANT}, {"Stream-Expires-At": "2027-06-01T02:00:00.0+02:00"}, 200),
    ({"Stream-Expires-At": INSTANT}, {"Stream-Expires-At": "2027-06-01T00:00:01Z"}, 409),
]


@pytest.mark.parametrize(("first", "second", "status"), AGAIN)
def test_a_second_put_compares_the_configuration(
    server: Server, first: Headers, second: Headers, status: int
) -> None:
    assert server.put("s", b"once", first).status_int == 201
    before = server.head("s").headers
    answer = server.put("s", b"again", second)
    assert answer.status_int == status
    if status == 200:
        assert "Location" not in answer.headers
        assert answer.headers["Stream-Next-Offset"] == before["Stream-Next-Offset"]
        assert answer.headers.get("Stream-Closed") == before.get("Stream-Closed")
    else:
        assert answer.json["type"] == "/errors/already-exists"
    assert server.get("s").body == b"once"


def test_a_put_does_not_reopen_what_was_closed_since(server: Server) -> None:
    server.put("s", headers=TEXT)
    server.post("s", headers=CLOSE)
    assert server.put("s", headers=TEXT).status_int == 409
    answer = server.put("s", headers={**TEXT, **CLOSE})
    assert (answer.status_int, answer.headers["Stream-Closed"]) == (200, "true")


REFUSED_EXPIRY: list[Headers] = [
    {"Stream-TTL": "60", "Stream-Expires-At": INSTANT},
    *({"Stream-TTL": value} for value in ("", "-1", "+60", "060", "60.0", "6e1", "1 0", "x", str(2**53))),
    *({"Stream-Expires-At": value} for value in ("", "tomorrow", "2027-06-01", "2027-13-01T00:00:00Z", "1")),
]


@pytest.mark.parametrize("headers", REFUSED_EXPIRY)
def test_a_wrong_lifetime_is_refused_and_creates_nothing(server: Server, headers: Headers) -> None:
    answer = server.put("s", b"x", {**TEXT, **headers})
    assert (answer.status_int, answer.json["code"]) == (400, "BAD_REQUEST")
    assert server.head("s").status_int == 404


@pytest.mark.parametrize("body", [b"NaN", b"[1", b"\xef\xbb\xbf1", b'"\xff"', b"1 2", b"[" * 10_000])
def test_a_wrong_json_body_creates_nothing(server: Server, body: bytes) -> None:
    answer = server.put("s", body, JSON)
    assert (answer.status_int, answer.json["code"]) == (400, "INVALID_JSON")
    assert server.head("s").status_int == 404


def test_an_empty_array_creates_an_empty_json_stream(server: Server) -> None:
    assert server.put("s", b"[]", JSON).headers["Stream-Next-Offset"] == format_offset(FIRST_LIFE, 0)
    assert server.get("s").json == []


# -- forks -------------------------------------------------------------------------------------------------------


def forked(source: str, **more: str) -> Headers:
    return {
        "Stream-Forked-From": source,
        **{f"Stream-Fork-{name.replace('_', '-').title()}": value for name, value in more.items()},
    }


@pytest.mark.parametrize("source", [f"{BASE}a/b", "a/b", " a/b ", "/a/b", "a%2Fb", f"{BASE}%61/b"])
def test_the_source_of_a_fork_is_a_path_or_a_name_decoded_once(server: Server, source: str) -> None:
    server.put("a/b", b"inherited", TEXT)
    answer = server.put("fork", b" own", forked(source))
    assert (answer.status_int, answer.headers["Content-Type"]) == (201, "text/plain")
    assert server.get("fork").body == b"inherited own"


@pytest.mark.parametrize(
    "last", ["\N{LATIN SMALL LETTER A WITH GRAVE}", "\N{LATIN CAPITAL LETTER A WITH RING ABOVE}"]
)
def test_the_source_may_be_written_in_utf_8_whatever_its_last_byte_is(server: Server, last: str) -> None:
    """A0 and 85 are white space in Latin-1, which is how header values come, but not in a header."""
    name = f"voil{last}"
    server.put(quote(name), b"inherited", TEXT)
    assert server.put("fork", headers=forked(BASE + name.encode().decode("latin-1"))).status_int == 201
    assert server.get("fork").body == b"inherited"


def test_the_source_is_a_path_also_where_the_app_is_mounted_below_another_path(server: Server) -> None:
    """SCRIPT_NAME is part of the URL that clients know, and of the Location that they are told."""
    mounted = {"SCRIPT_NAME": "/outer"}
    created = server.request("PUT", "s", b"inherited", TEXT, **mounted)
    assert created.headers["Location"] == f"http://localhost:80/outer{BASE}s"
    for number, source in enumerate((f"/outer{BASE}s", f"{BASE}s", "s")):
        answer = server.request("PUT", f"fork{number}", headers=forked(source), **mounted)
        assert answer.status_int == 201


def test_a_source_that_is_encoded_twice_is_another_stream(server: Server) -> None:
    server.put("a", b"x", TEXT)
    assert server.put("fork", headers=forked("%2561")).status_int == 404
    server.put("%2561", b"percent", TEXT)
    server.put("fork", headers=forked("%2561"))
    assert server.get("fork").body == b"percent"


def test_a_fork_at_an_offset_and_a_sub_offset(server: Server) -> None:
    server.put("s", b"abc", TEXT)
    middle = server.tail("s")
    server.post("s", b"defg", TEXT)
    assert server.put("at", headers=forked("s", offset=middle)).status_int == 201
    assert server.put("past", headers=forked("s", offset=middle, sub_offset="2")).status_int == 201
    assert server.put("start", headers=forked("s", offset="-1", sub_offset="1")).status_int == 201
    assert [server.get(name).body for name in ("at", "past", "start")] == [b"abc", b"abcde", b"a"]
    assert server.put("past", headers=forked("s", offset=middle, sub_offset="2")).status_int == 200
    for other in ({}, {"sub_offset": "1"}, {"sub_offset": "0"}):
        assert server.put("past", headers=forked("s", offset=middle, **other)).status_int == 409
    assert server.put("past", headers=TEXT).status_int == 409


def test_the_sub_offset_of_a_json_fork_counts_messages(server: Server) -> None:
    server.put("s", b'[1,{"two":2},3]', JSON)
    server.put("fork", b"[4]", forked("s", offset="-1", sub_offset="2"))
    assert server.get("fork").json == [1, {"two": 2}, 4]


FORK_REFUSALS: list[tuple[Headers, int, str]] = [
    (forked("nobody"), 404, "NOT_FOUND"),
    (forked(""), 400, "BAD_REQUEST"),
    (forked("/"), 400, "BAD_REQUEST"),
    (forked("%ff"), 400, "BAD_REQUEST"),
    (forked("s", offset=BEYOND), 400, "BAD_REQUEST"),
    (forked("s", offset="9999999999999999_9999999999999999"), 400, "INVALID_OFFSET"),
    (forked("s", offset="0000000000000001_0000000000000000"), 410, "OFFSET_GONE"),
    (forked("s", offset="nonsense"), 400, "INVALID_OFFSET"),
    (forked("s", offset="now"), 400, "INVALID_OFFSET"),
    (forked("s", offset=ZERO + "\xa0"), 400, "INVALID_OFFSET"),
    (forked("s", sub_offset="1"), 400, "BAD_REQUEST"),
    (forked("s", offset="-1", sub_offset="4"), 400, "BAD_REQUEST"),
    (forked("s", offset="-1", sub_offset="-1"), 400, "BAD_REQUEST"),
    (forked("s", offset="-1", sub_offset="1.0"), 400, "BAD_REQUEST"),
    (forked("s", offset="-1", sub_offset="01"), 400, "BAD_REQUEST"),
    ({**forked("s"), **JSON}, 409, "CONTENT_TYPE_MISMATCH"),
    ({"Stream-Fork-Offset": ZERO}, 400, "BAD_REQUEST"),
    ({"Stream-Fork-Sub-Offset": "0"}, 400, "BAD_REQUEST"),
]


@pytest.mark.parametrize(("headers", "status", "code"), FORK_REFUSALS)
def test_a_wrong_fork_is_refused_and_leaves_nothing(
    server: Server, headers: Headers, status: int, code: str
) -> None:
    server.put("s", b"abc", TEXT)
    answer = server.put("fork", b"x", headers)
    assert (answer.status_int, answer.json["code"]) == (status, code)
    assert server.head("fork").status_int == 404
    # No reference was left behind either: the source goes at once.
    assert server.delete("s").status_int == 204
    assert server.head("s").status_int == 404


def test_a_soft_deleted_source_is_gone_its_path_blocked_and_its_bytes_kept(server: Server) -> None:
    server.put("s", b"abc", TEXT)
    server.put("fork", headers=forked("s"))
    assert server.delete("s").status_int == 204
    for method in ("GET", "HEAD", "POST", "DELETE"):
        assert server.request(method, "s", b"x" if method == "POST" else b"", TEXT).status_int == 410
    assert server.put("s", headers=TEXT).json["code"] == "PATH_BLOCKED"
    assert server.put("other", headers=forked("s")).json["code"] == "FORK_FROM_TOMBSTONE"
    assert server.get("fork").body == b"abc"
    assert server.delete("fork").status_int == 204
    assert server.put("s", headers=TEXT).status_int == 201
