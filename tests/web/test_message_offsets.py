"""Stream-Message-Offsets over HTTP: what is answered, what the setting changes, and what every kind of reader gets."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from webtest import TestResponse

from tests.web.driving import JSON, TEXT, Server

CHANGE = b'{"headers":{"operation":"insert"}}'
NAME = "Stream-Message-Offsets"
ON, OFF = {**JSON, NAME: "true"}, {**JSON, NAME: "false"}


def offsets(answer: TestResponse) -> list[Any]:
    return [message["headers"].get("offset") for message in answer.json]


@pytest.fixture
def set_on() -> Any:
    server = Server(http={"message_offsets": True})
    yield server
    server.close()


def test_a_stream_with_offsets_says_so(server: Server) -> None:
    for answer in (server.put("s", headers=ON), server.put("s", headers=ON), server.put("s", headers=JSON)):
        assert answer.headers[NAME] == "true"
    assert server.head("s").headers[NAME] == "true"
    assert server.put("fork", headers={"Stream-Forked-From": "s"}).headers[NAME] == "true"


def test_any_other_does_not(server: Server) -> None:
    for name, headers in (("json", JSON), ("off", OFF), ("text", TEXT)):
        assert NAME not in server.put(name, headers=headers).headers
        assert NAME not in server.head(name).headers


def test_it_matters_for_a_stream_that_is_there_only_where_it_is_said(server: Server) -> None:
    server.put("on", headers=ON)
    server.put("off", headers=JSON)
    statuses = [server.put("on", headers=headers).status_int for headers in (ON, JSON, OFF)]
    assert statuses == [200, 200, 409]
    statuses = [server.put("off", headers=headers).status_int for headers in (ON, JSON, OFF)]
    assert statuses == [409, 200, 200]
    assert "its messages have no offsets" in server.put("off", headers=ON).json["detail"]


@pytest.mark.parametrize("value", ["", "yes", "1", "true, true"])
def test_a_value_that_is_neither_is_refused(server: Server, value: str) -> None:
    answer = server.put("s", headers={**JSON, NAME: value})
    assert (answer.status_int, NAME in answer.json["detail"]) == (400, True)
    assert server.head("s").status_int == 404


@pytest.mark.parametrize("headers", [TEXT, {}])
def test_only_json_has_messages(server: Server, headers: dict[str, str]) -> None:
    assert server.put("s", headers={**headers, NAME: "true"}).status_int == 400
    assert server.head("s").status_int == 404
    assert server.put("s", headers={**headers, NAME: "false"}).status_int == 201


def test_the_setting_is_for_new_streams_of_json_that_do_not_say_anything(set_on: Server) -> None:
    assert set_on.put("json", headers=JSON).headers[NAME] == "true"
    assert NAME not in set_on.put("off", headers=OFF).headers
    assert NAME not in set_on.put("text", headers=TEXT).headers
    assert NAME not in set_on.put("fork", headers={**JSON, "Stream-Forked-From": "off"}).headers
    assert set_on.put("off", headers=JSON).status_int == 200


def catch_up(server: Server) -> TestResponse:
    return server.get("s?offset=-1")


def poll(server: Server) -> TestResponse:
    return server.get("s?offset=-1&live=long-poll")


@pytest.mark.parametrize("read", [catch_up, poll])
def test_every_answer_has_the_offset_of_the_append(server: Server, read: Callable[[Server], Any]) -> None:
    ends = [server.put("s", CHANGE, ON).headers["Stream-Next-Offset"]]
    ends.append(server.post("s", CHANGE, JSON).headers["Stream-Next-Offset"])
    answer = read(server)
    assert offsets(answer) == ends
    assert int(answer.headers["Content-Length"]) == len(answer.body)
    assert offsets(server.get(f"s?offset={ends[0]}")) == ends[1:]


def test_event_streams_have_it_too(server: Server) -> None:
    end = server.put("s", CHANGE, {**ON, "Stream-Closed": "true"}).headers["Stream-Next-Offset"]
    event = server.get("s?offset=-1&live=sse").text.split("event: data\n")[1].split("\n\n")[0]
    text = "".join(line.removeprefix("data:") for line in event.splitlines() if line.startswith("data:"))
    assert [message["headers"]["offset"] for message in json.loads(text)] == [end]
