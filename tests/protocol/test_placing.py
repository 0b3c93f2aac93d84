"""``headers.offset``: which messages get one, where it stands, and that nothing else of them changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from durable_streams.protocol.messages.placing import MESSAGE_BYTES_MAX, to_unfilled, with_places
from durable_streams.protocol.messages.splitting import to_messages
from durable_streams.protocol.offsets import format_offset

OFFSET = format_offset(1764289999123456, 123)
MEMBER = f'"offset":"{OFFSET}",'.encode()


def placed(body: bytes) -> bytes:
    return filled(to_messages(body))


def filled(stored: bytes) -> bytes:
    unfilled = to_unfilled(with_places(stored), len(stored))
    found = unfilled.fill(OFFSET)
    assert len(unfilled) == len(found)
    return found


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"headers":{"operation":"insert"}}', b'{"headers":{#"operation":"insert"}}'),
        (b'{"headers" : {"control": "reset"}}', b'{"headers":{#"control":"reset"}}'),
        (b'{"headers":{"txid":"1","operation":null},"a":1.50}', b'{"headers":{#"txid":"1","operation":null},"a":1.50}'),
        (rb'{"h\u0065aders":{"\u006fperation":1}}', rb'{"h\u0065aders":{#"\u006fperation":1}}'),
        (
            b'{"value":{"headers":{"operation":1}},"headers":{"operation":1},"old":{"headers":{"operation":1}}}',
            b'{"value":{"headers":{"operation":1}},"headers":{#"operation":1},"old":{"headers":{"operation":1}}}',
        ),
        (
            b'{"headers":{"operation":1},"headers":{"operation":1}}',
            b'{"headers":{"operation":1},"headers":{#"operation":1}}',
        ),
        (b'{"headers":5,"headers":{"operation":1}}', b'{"headers":5,"headers":{#"operation":1}}'),
        (rb'{"headers":{"operation":"\ud800"}}', rb'{"headers":{#"operation":"\ud800"}}'),
        (rb'{"a":"\\","headers":{"operation":"\""}}', rb'{"a":"\\","headers":{#"operation":"\""}}'),
        (rb'{"x:{":"\":{\"","headers":{",":1,"control":1}}', rb'{"x:{":"\":{\"","headers":{#",":1,"control":1}}'),
        ('{"é":"ü","headers":{"control":"é"}}'.encode(), '{"é":"ü","headers":{#"control":"é"}}'.encode()),
    ],
)  # fmt: skip
def test_a_message_of_the_state_protocol_gets_an_offset(body: bytes, expected: bytes) -> None:
    assert placed(body) == expected.replace(b"#", MEMBER) + b"\n"


@pytest.mark.parametrize(
    "body",
    [
        b'{"headers":{"operation":1,"offset":"mine"}}',
        rb'{"headers":{"operation":1,"\u006fffset":null}}',
        b'{"headers":{"txid":1}}',
        b'{"headers":{}}',
        b'{"headers":{"operation":1},"headers":{}}',
        b'{"headers":{"operation":1},"headers":[{"operation":1}]}',
        b'{"headers":"{\\"operation\\":1}"}',
        b'{"value":{"headers":{"operation":1}}}',
        b'[[{"headers":{"operation":1}}]]',
        b'"\\"headers\\":{\\"operation\\":1}"',
        b'{"Headers":{"operation":1}}',
        b"12",
        b"null",
        b"[]",
    ],
)
def test_any_other_message_is_left_alone(body: bytes) -> None:
    assert placed(body) == to_messages(body)


def test_each_message_of_an_array_is_looked_at() -> None:
    body = b'[1,{"headers":{"control":1}},[],{"headers":{"a":1}},{"headers":{"operation":2}}]'
    expected = b'1\n{"headers":{#"control":1}}\n[]\n{"headers":{"a":1}}\n{"headers":{#"operation":2}}\n'
    assert placed(body) == expected.replace(b"#", MEMBER)


def test_many_messages_are_dealt_with_in_runs() -> None:
    one = b'{"headers":{"operation":1}}\n'
    stored = one * 100_000
    runs = list(with_places(stored))
    assert max(map(len, runs)) < 64 * 1024
    assert to_unfilled(runs, len(stored)).places == 100_000


@pytest.mark.parametrize("padding", [40_000, MESSAGE_BYTES_MAX - 40, MESSAGE_BYTES_MAX])
def test_a_message_that_is_too_long_to_be_looked_at_is_left_alone(padding: int) -> None:
    body = b'{"headers":{"operation":1},"value":"%b"}' % (b"x" * padding)
    assert (MEMBER in placed(body)) == (len(body) <= MESSAGE_BYTES_MAX)


NAMES = st.sampled_from(
    ["headers", "operation", "control", "offset", "a", "", ":{", ",", '\\"', rb"h\u0065aders".decode(), r"\ud800"]
)  # fmt: skip


def objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    members = st.lists(st.tuples(NAMES, values), max_size=4)
    return members.map(lambda found: "{" + ",".join(f'"{name}":{value}' for name, value in found) + "}")


TEXTS = st.recursive(
    st.sampled_from(["1", "null", '"a"', r'"\\"', r'"\ud83d\ude00"', '"{}"', r'":{\"operation\":1}"']),
    lambda values: (
        objects(values) | st.lists(values, max_size=3).map(lambda found: "[" + ",".join(found) + "]")
    ),
    max_leaves=12,
)
HEADERS = objects(st.sampled_from(["1", '{"operation":1}']))
MESSAGES = st.lists(st.tuples(NAMES | st.just("headers"), TEXTS | HEADERS), max_size=5).map(
    lambda found: "{" + ",".join(f'"{name}":{value}' for name, value in found) + "}"
)


@given(MESSAGES | TEXTS)
@example('{"headers":{"operation":1},"a":{"headers":{"operation":1}},"headers":{"operation":1},"b":2}')
def test_a_parser_finds_the_offset_and_nothing_else_changed(text: str) -> None:
    # As one message: an array would be many.
    stored = to_messages(b"[%b]" % text.encode())
    after = filled(stored)
    before, value = json.loads(stored), json.loads(after)
    if wants_offset(before):
        before["headers"]["offset"] = OFFSET
        assert after.count(MEMBER) == 1
        assert after.replace(MEMBER, b"") == stored
    else:
        assert after == stored
    assert value == before


def wants_offset(message: Any) -> bool:
    """The rule, on values as parsers give them."""
    headers = message.get("headers") if isinstance(message, dict) else None
    return (
        isinstance(headers, dict)
        and ("operation" in headers or "control" in headers)
        and "offset" not in headers
    )
