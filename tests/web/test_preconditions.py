"""Conditional writes over HTTP: Stream-Expected-Offset, If-Match, If-None-Match; a refusal changes nothing."""

from __future__ import annotations

import gevent
import pytest

from tests.web.driving import CLOSE, TEXT, Headers, Server

METHODS = {"POST": (b"x", 204), "PUT": (b"", 200), "DELETE": (b"", 204)}


@pytest.fixture
def stream(server: Server) -> Server:
    server.put("s", b"abc", TEXT)
    return server


def expecting(offset: str) -> Headers:
    return {**TEXT, "Stream-Expected-Offset": offset}


def test_an_append_goes_where_the_client_expects_it(stream: Server) -> None:
    before = stream.tail("s")
    answer = stream.post("s", b"d", expecting(before))
    assert answer.status_int == 204
    refusal = stream.post("s", b"e", expecting(before))
    assert (refusal.status_int, refusal.json["code"]) == (409, "EXPECTED_OFFSET_MISMATCH")
    assert refusal.json["type"] == "/errors/expected-offset-mismatch"
    assert refusal.headers["Stream-Next-Offset"] == answer.headers["Stream-Next-Offset"]
    assert stream.post("s", b"f", expecting(refusal.headers["Stream-Next-Offset"])).status_int == 204
    assert stream.get("s").body == b"abcdf"


def test_of_many_who_expect_the_same_end_one_appends(stream: Server) -> None:
    before = stream.tail("s")
    writers = [gevent.spawn(stream.post, "s", b"%d" % number, expecting(before)) for number in range(10)]
    statuses = [writer.get().status_int for writer in writers]
    assert sorted(statuses) == [204] + [409] * 9
    assert stream.get("s").body == b"abc%d" % statuses.index(204)


@pytest.mark.parametrize("text", ["", "now", "-1", "0" * 16 + "_" + "0" * 16, "3", "forged", "1_1"])
def test_what_is_no_offset_is_refused(stream: Server, text: str) -> None:
    refusal = stream.post("s", b"x", expecting(text))
    assert (refusal.status_int, refusal.json["code"]) == (400, "BAD_REQUEST")
    assert "Stream-Expected-Offset" in refusal.json["detail"]
    assert stream.get("s").body == b"abc"


def test_a_fork_has_an_end_of_its_own(stream: Server) -> None:
    stream.put("fork", headers={"Stream-Forked-From": "s"})
    begun = stream.tail("fork")
    assert begun == stream.tail("s")
    assert stream.post("s", b"d", expecting(begun)).status_int == 204
    assert stream.post("fork", b"e", expecting(begun)).status_int == 204
    assert stream.tail("fork") != stream.tail("s")
    assert stream.post("fork", b"f", expecting(stream.tail("s"))).status_int == 409


def test_a_closed_stream_says_so_whatever_is_expected(stream: Server) -> None:
    stream.post("s", headers=CLOSE)
    for offset in (stream.tail("s"), stream.offset("s", 0)):
        refusal = stream.post("s", b"x", expecting(offset))
        assert (refusal.json["code"], refusal.headers["Stream-Closed"]) == ("STREAM_CLOSED", "true")


@pytest.mark.parametrize("method", METHODS)
def test_a_write_with_the_current_tag_is_carried_out(stream: Server, method: str) -> None:
    body, status = METHODS[method]
    tag = stream.get("s").headers["ETag"]
    answer = stream.request(method, "s", body, {**TEXT, "If-Match": tag, "If-None-Match": '"x"'})
    assert answer.status_int == status


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
def test_a_write_with_a_precondition_that_fails_changes_nothing(
    stream: Server, method: str, header: str
) -> None:
    tag = stream.get("s").headers["ETag"]
    if header == "If-Match":
        stream.post("s", b"d", TEXT)
    before = stream.get("s").headers["ETag"]
    refusal = stream.request(method, "s", METHODS[method][0], {**TEXT, header: tag})
    assert (refusal.status_int, refusal.json["code"]) == (412, "PRECONDITION_FAILED")
    assert refusal.headers["Stream-Next-Offset"] == stream.tail("s")
    assert stream.get("s").headers["ETag"] == before


def test_a_create_may_ask_for_a_new_stream_and_for_one_that_is_there(server: Server) -> None:
    new, known = {**TEXT, "If-None-Match": "*"}, {**TEXT, "If-Match": "*"}
    refusal = server.put("s", headers=known)
    assert (refusal.status_int, "Stream-Next-Offset" in refusal.headers) == (412, False)
    assert server.head("s").status_int == 404
    assert server.put("s", headers=new).status_int == 201
    assert server.put("s", headers=new).status_int == 412
    assert server.put("s", headers=known).status_int == 200
    fork = {"Stream-Forked-From": "s"}
    assert server.put("fork", headers={**fork, "If-Match": "*"}).status_int == 412
    assert server.delete("s").status_int == 204
    # Nothing has been left of the fork that was refused: a source with forks would be kept, and 410.
    assert server.head("s").status_int == 404


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_stream_that_is_not_there_is_not_found_whatever_its_tag(server: Server, method: str) -> None:
    for headers in ({"If-Match": "*"}, {"If-None-Match": "*"}):
        assert server.request(method, "s", b"", {**TEXT, **headers}).status_int == 404
