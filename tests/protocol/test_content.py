"""Content types, and JSON mode token for token (section 9): what is kept as it was sent, and what is refused."""

from __future__ import annotations

import json
from typing import NoReturn

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from durable_streams.protocol.content import (
    check_content_type,
    is_json,
    is_text,
    media_type,
    to_appended_messages,
    to_array,
    to_messages,
)
from durable_streams.protocol.errors import BadRequest, EmptyArray, InvalidJson


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("text/plain", "text/plain"),
        ("Text/PLAIN", "text/plain"),
        ("text/plain;charset=utf-8", "text/plain"),
        ("text/plain ; charset=UTF-8 ; x=y", "text/plain"),
        ("application/vnd.a+json", "application/vnd.a+json"),
    ],
)
def test_content_types_are_compared_by_media_type_without_case(content_type: str, expected: str) -> None:
    assert media_type(content_type) == expected


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", " Text/Plain; charset=utf-8\t", "application/x-a.b_c~d!#$%&'*+^`|-9", "a/b;c=\xc3\xa0"],
)
def test_a_content_type_is_kept_as_it_was_sent_but_for_white_space_around_it(content_type: str) -> None:
    assert check_content_type(content_type) == content_type.strip(" \t")


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        " ",
        "text",
        "text/",
        "/plain",
        "text/plain/x",
        "te xt/plain",
        "text/pla in",
        "text//plain",
        ";charset=utf-8",
        "text\\plain",
        "text/pl\xe4in",
        "text/plain\xa0",
        "text/plain,text/html",
        "(text)/plain",
        '"text/plain"',
    ],
)
def test_what_names_no_media_type_is_refused(content_type: str) -> None:
    with pytest.raises(BadRequest, match="Content-Type"):
        check_content_type(content_type)


@pytest.mark.parametrize(
    ("content_type", "json_mode", "text"),
    [
        ("application/json", True, True),
        ("APPLICATION/Json;charset=utf-8", True, True),
        ("application/json-seq", False, False),
        ("application/ndjson", False, False),
        ("application/problem+json", False, False),
        ("text/json", False, True),
        ("text/event-stream", False, True),
        ("application/octet-stream", False, False),
    ],
)
def test_json_mode_and_text_are_told_by_the_media_type(
    content_type: str, json_mode: bool, text: bool
) -> None:
    assert is_json(content_type) is json_mode
    assert is_text(content_type) is text


# -- token for token ------------------------------------------------------------------------------------------------

TOKENS = [
    "0",
    "-0",
    "-0.0",
    "1.0",
    "1.10",
    "1e400",
    "-1E+400",
    "1e-400",
    "0.1e0",
    "9007199254740993",
    "123456789012345678901234567890",
    "9" * 5000,
    "0." + "1" * 5000,
    "true",
    "false",
    "null",
    '""',
    '"a"',
    '"\\u0041"',
    '"\\u00e9\\u00E9"',
    '"\N{LATIN SMALL LETTER E WITH ACUTE}"',
    '"\\/ / \\" \\\\ \\b\\f\\n\\r\\t"',
    '"\\ud83d\\ude00"',
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '"\\u0000"',
    '"\\u2028\u2028\x7f"',
    '"a,b]}[{:"',
    "{}",
    "[]",
    '{"a":1,"a":2}',
    '{"b":1,"a":2}',
    '{"":{"":{}}}',
    '{"\\ud800":"\\ud800"}',
    '[[1,2],[],[[]],{"a":[1.0]}]',
    "[" * 500 + "]" * 500,
]
"""JSON texts without a space between tokens, which no parser and printer would all give back unchanged."""

SHORT = [token for token in TOKENS if len(token) < 50]


@pytest.mark.parametrize("token", TOKENS, ids=lambda token: token[:20])
def test_a_message_comes_back_token_for_token(token: str) -> None:
    body = token.encode()
    stored = to_messages(body if not token.startswith("[") else b"[" + body + b"]")
    assert stored == body + b",\n"
    assert to_array(stored) == b"[" + body + b"]"


@given(st.lists(st.sampled_from(SHORT), min_size=1), st.text(" \t\r\n", max_size=3))
def test_one_level_of_array_is_flattened_and_nothing_else_changes(tokens: list[str], space: str) -> None:
    body = f"{space}[{space}" + f"{space},{space}".join(tokens) + f"{space}]{space}"
    stored = to_messages(body.encode())
    assert stored == "".join(f"{token},\n" for token in tokens).encode()
    assert to_array(stored).replace(b",\n", b",").decode() == "[" + ",".join(tokens) + "]"


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        ('{"event": "created"}', ['{"event": "created"}']),
        ('[{"event": "a"}, {"event": "b"}]', ['{"event": "a"}', '{"event": "b"}']),
        ("[[1,2], [3,4]]", ["[1,2]", "[3,4]"]),
        ("[[[1,2,3]]]", ["[[1,2,3]]"]),
        ("[[]]", ["[]"]),
        ("[null]", ["null"]),
    ],
)
def test_the_examples_of_section_9_1_2(body: str, messages: list[str]) -> None:
    assert to_messages(body.encode()).decode() == "".join(f"{message},\n" for message in messages)


@pytest.mark.parametrize("line_break", ["\n", "\r", "\r\n", "\n\n", "\r\n\r\n"])
def test_a_message_is_one_line_whatever_stood_between_its_tokens(line_break: str) -> None:
    body = '{%s"a"%s:%s[1,%s2]%s}%s' % ((line_break,) * 6)
    for sent in (body, f"[{body}]", f"[{line_break}{body}{line_break}]"):
        stored = to_messages(sent.encode())
        assert stored.count(b"\n") == 1
        assert stored.endswith(b",\n")
        assert b"\r" not in stored
        assert json.loads(to_array(stored)) == [{"a": [1, 2]}]


def test_an_empty_array_is_an_empty_stream_when_created_and_no_append() -> None:
    for body in (b"[]", b" [ \r\n ] "):
        assert to_messages(body) == b""
        with pytest.raises(EmptyArray):
            to_appended_messages(body)
    assert to_array(b"") == b"[]"
    assert to_appended_messages(b"[[]]") == b"[],\n"


# -- refused --------------------------------------------------------------------------------------------------------

LEVELS = 10_000

NOT_JSON: dict[str, bytes] = {
    "nothing": b"",
    "white space": b" \r\n\t",
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "minus Infinity": b"-Infinity",
    "NaN inside": b'[{"a": NaN}]',
    "a byte order mark": b'\xef\xbb\xbf{"a":1}',
    "a byte order mark and an array": b"\xef\xbb\xbf[1]",
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "trailing garbage": b"{}x",
    "two texts": b"{}{}",
    "two lines": b"1\n2",
    "a trailing comma": b"[1,]",
    "a trailing comma in an object": b'{"a":1,}',
    "a missing comma": b"[1 2]",
    "only a comma": b"[,]",
    "not closed": b"[1",
    "closed twice": b"[1]]",
    "closed wrongly": b"[1}",
    "an open string": b'"a',
    "a line break in a string": b'"a\nb"',
    "a carriage return in a string inside an array": b'["a\rb"]',
    "a control character in a string": b'"\x1f"',
    "a NUL": b"\x00",
    "a bad escape": b'"\\x41"',
    "a bad unicode escape": b'"\\u12g4"',
    "a short unicode escape": b'["\\u12"]',
    "invalid UTF-8": b'"\xff"',
    "overlong UTF-8": b'"\xc0\xaf"',
    "an encoded surrogate": b'"\xed\xa0\x80"',
    "a cut character": b'"\xe2\x82"',
    "a leading zero": b"01",
    "a negative leading zero": b"[-01]",
    "a plus": b"+1",
    "no digit before the point": b".5",
    "no digit after the point": b"1.",
    "no digit in the exponent": b"1e+",
    "only a minus": b"-",
    "a hexadecimal number": b"0x10",
    "a word": b"undefined",
    "a cut word": b"tru",
    "a word in capitals": b"TRUE",
    "single quotes": b"{'a':1}",
    "a key without quotes": b"{a:1}",
    "a number for a key": b"{1:2}",
    "a comment": b"/* */1",
    "a no-break space": b"\xc2\xa01",
    "a vertical tab": b"\x0b1",
    "ten thousand arrays": b"[" * LEVELS + b"]" * LEVELS,
    "ten thousand objects": b'{"a":' * LEVELS + b"1" + b"}" * LEVELS,
    "ten thousand of both": b'[{"a":' * (LEVELS // 2) + b"1" + b"}]" * (LEVELS // 2),
    "ten thousand not closed": b"[" * LEVELS,
    "a deep message among others": b"[1," + b"[" * LEVELS + b"]" * LEVELS + b",2]",
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_not_one_json_text_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidJson) as refused:
        to_messages(body)
    assert refused.value.status == 400
    assert refused.value.detail.startswith("Invalid JSON: ")
    assert len(refused.value.detail) < 200


def is_json_text(body: bytes) -> bool:
    """What the standard parser says, which knows three words too many."""

    def refuse(word: str) -> NoReturn:
        raise ValueError(word)

    try:
        json.loads(body.decode("utf-8"), parse_constant=refuse, parse_int=str)
    except ValueError:
        return False
    return True


PIECES = [
    *(bytes([byte]) for byte in b'[]{},:"\\10-+.eEau/\n\r\t\0\x1f'),
    b"true",
    b"null",
    b" ",
    b'"a"',
    b'"a":',
    b"\\u00e9",
    b"\\ud800",
    b"\xc3\xa9",
    b"\xff",
    b"\xef\xbb\xbf",
]


@given(st.lists(st.sampled_from(PIECES), max_size=9).map(b"".join))
@example(b"[[[]]")
@example(b'["\\ud800", 1 2]')
def test_exactly_what_is_json_is_accepted(body: bytes) -> None:
    try:
        stored = to_messages(body)
    except InvalidJson:
        assert not is_json_text(body)
        return
    assert is_json_text(body)
    value = json.loads(body)
    assert json.loads(to_array(stored)) == (value if isinstance(value, list) else [value])


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(JSON_VALUES, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_every_value_comes_back(value: object, ascii_only: bool, indent: int | str | None) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8")
    stored = to_messages(body)
    messages = value if isinstance(value, list) else [value]
    assert json.loads(to_array(stored)) == messages
    assert stored.count(b"\n") == len(messages)
