"""JSON mode token for token (section 9): what is stored and sent of a body, and what is refused."""

from __future__ import annotations

import json
import random
import re
import tracemalloc
from collections.abc import Iterator
from typing import NoReturn

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from durable_streams.protocol.errors import InvalidJson, ProtocolError, TooManyMessages
from durable_streams.protocol.messages import splitting
from durable_streams.protocol.messages.framing import (
    array_bytes,
    join_messages,
    pass_messages,
    to_array,
    to_array_pieces,
)
from durable_streams.protocol.messages.splitting import PIECE_BYTES, stored_pieces, to_messages

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
SIZES = (1, 2, 3, 5, 8, 13, 21)
"""Of pieces: so small that a cut is made wherever one can be made."""

TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\[\]{},:"\s]+', re.DOTALL)


def tokens_of(text: bytes) -> list[bytes]:
    return TOKEN.findall(text)


@pytest.fixture(params=SIZES)
def piece_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(splitting, "PIECE_BYTES", request.param)
    return int(request.param)


def in_pieces(body: bytes, size: int) -> bytes | str:
    """What becomes of a body that is taken in pieces of ``size`` bytes: its stored form, or ``refused``."""
    before, splitting.PIECE_BYTES = splitting.PIECE_BYTES, size
    try:
        return to_messages(body)
    except InvalidJson:
        return "refused"
    finally:
        splitting.PIECE_BYTES = before


@pytest.mark.parametrize("token", TOKENS, ids=lambda token: token[:20])
def test_a_message_comes_back_token_for_token(token: str) -> None:
    body = token.encode()
    sent = body if not token.startswith("[") else b"[" + body + b"]"
    stored = to_messages(sent)
    assert stored == body + b"\n"
    assert to_array(stored) == b"[" + body + b"]"
    if len(body) < 1200:
        assert {in_pieces(sent, size) for size in SIZES} == {stored}


@given(st.lists(st.sampled_from(SHORT), min_size=1), st.text(" \t\r\n", max_size=3))
def test_one_level_of_array_is_flattened_and_nothing_but_white_space_goes(
    tokens: list[str], space: str
) -> None:
    body = f"{space}[{space}" + f"{space},{space}".join(tokens) + f"{space}]{space}"
    stored = to_messages(body.encode())
    assert stored == "".join(f"{token}\n" for token in tokens).encode()
    assert to_array(stored).decode() == "[" + ",".join(tokens) + "]"


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        ('{"event": "created"}', ['{"event":"created"}']),
        ('[{"event": "a"}, {"event": "b"}]', ['{"event":"a"}', '{"event":"b"}']),
        ("[[1,2], [3,4]]", ["[1,2]", "[3,4]"]),
        ("[[[1,2,3]]]", ["[[1,2,3]]"]),
        ("[[]]", ["[]"]),
        ("[null]", ["null"]),
    ],
)
def test_the_examples_of_section_9_1_2(body: str, messages: list[str]) -> None:
    assert to_messages(body.encode()).decode() == "".join(f"{message}\n" for message in messages)


@pytest.mark.parametrize("line_break", ["\n", "\r", "\r\n", "\n\n", "\r\n\r\n"])
def test_a_message_is_one_line_whatever_stood_between_its_tokens(line_break: str) -> None:
    body = '{%s"a"%s:%s[1,%s2]%s}%s' % ((line_break,) * 6)
    for sent in (body, f"[{body}]", f"[{line_break}{body}{line_break}]"):
        assert to_messages(sent.encode()) == b'{"a":[1,2]}\n'


@pytest.mark.parametrize("body", [b"[]", b" [ \r\n ] "])
def test_an_empty_array_holds_no_message(body: bytes) -> None:
    assert to_messages(body) == b""
    assert {in_pieces(body, size) for size in SIZES} == {b""}
    assert to_array(b"") == b"[]"
    assert to_messages(b"[[]]") == b"[]\n"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(JSON_VALUES, st.booleans(), st.sampled_from([None, 1, "\t"]), st.sampled_from(SIZES))
def test_every_value_comes_back_in_the_same_tokens_and_without_white_space(
    value: object, ascii_only: bool, indent: int | str | None, size: int
) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    messages = value if isinstance(value, list) else [value]
    stored = to_messages(body)
    assert json.loads(to_array(stored)) == messages
    assert stored.count(b"\n") == len(messages)
    assert to_array(stored) == b"".join(tokens_of(body if isinstance(value, list) else b"[" + body + b"]"))
    assert in_pieces(body, size) == stored


# -- framing --------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(SHORT), min_size=1), st.lists(st.booleans(), min_size=1))
def test_messages_of_an_earlier_version_are_sent_like_those_of_this_one(
    tokens: list[str], old: list[bool]
) -> None:
    ends = [",\n" if old[number % len(old)] else "\n" for number in range(len(tokens))]
    stored = "".join(token + end for token, end in zip(tokens, ends, strict=True)).encode()
    assert to_array(stored, old_messages=True).decode() == "[" + ",".join(tokens) + "]"
    assert join_messages(stored, old_messages=True).decode() == ",".join(tokens) + ","
    assert pass_messages(stored, len(tokens)) == (0, len(stored))


@given(
    st.lists(st.sampled_from([*SHORT, '"a,"', '","']), min_size=1),
    st.lists(st.booleans(), min_size=1),
    st.lists(st.integers(1, 9), min_size=1),
)
def test_an_array_in_pieces_is_the_same_array(tokens: list[str], old: list[bool], sizes: list[int]) -> None:
    ends = [",\n" if old[number % len(old)] else "\n" for number in range(len(tokens))]
    stored = "".join(token + end for token, end in zip(tokens, ends, strict=True)).encode()
    pieces, rest, number = [], stored, 0
    while rest:
        size = sizes[number % len(sizes)]
        pieces.append(rest[:size])
        rest, number = rest[size:], number + 1
    has_old = any(end == ",\n" for end in ends)
    whole = to_array(stored, old_messages=has_old)
    assert b"".join(to_array_pieces(pieces, old_messages=has_old)) == whole
    assert array_bytes(len(stored), old_messages=has_old) == (None if has_old else len(whole))


def test_without_messages_of_an_earlier_version_an_array_is_one_byte_longer_than_what_is_stored() -> None:
    stored = to_messages(b'[1, {"a": [2, "3,\\n"]}, "four"]')
    assert len(to_array(stored)) == len(stored) + 1


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


# -- long bodies ----------------------------------------------------------------------------------------------------

SPACE = st.text(" \t\r\n", max_size=4)
STRING = st.sampled_from(
    [
        '""',
        '"a,b]}[{:"',
        '"\\u0041\\\\"',
        '"\\\\\\""',
        '"\\ud800"',
        '"\\ud83d\\ude00,"',
        '"\N{EURO SIGN}\N{EURO SIGN}"',
    ]
    + ['"' + "\\\\" * count + '"' for count in (3, 8)]
    + ['"' + "x" * 20 + '"']
)
SCALAR = STRING | st.sampled_from(
    ["1", "-0.0", "true", "null", "1e400", "1234567890123", "-0.1234567", "1.5E-12345678"]
)


def spaced(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda before, part, after: before + part + after, SPACE, parts, SPACE)


TEXTS = st.recursive(
    spaced(SCALAR),
    lambda inner: spaced(
        st.lists(inner, max_size=4).map(lambda items: "[" + ",".join(items) + "]")
        | st.lists(st.builds(lambda name, value: f"{name}:{value}", spaced(STRING), inner), max_size=4).map(
            lambda members: "{" + ",".join(members) + "}"
        )
    ),
    max_leaves=12,
)


@given(TEXTS, st.sampled_from(SIZES))
def test_a_text_is_stored_alike_wherever_it_is_cut(text: str, size: int) -> None:
    body = text.encode()
    stored = to_messages(body)
    expected = b"".join(tokens_of(body))
    assert to_array(stored) == (expected if expected.startswith(b"[") else b"[" + expected + b"]")
    assert in_pieces(body, size) == stored


@given(TEXTS, st.data(), st.sampled_from(SIZES))
def test_a_spoilt_text_is_judged_alike_wherever_it_is_cut(text: str, data: st.DataObject, size: int) -> None:
    body = text.encode()
    at = data.draw(st.integers(0, len(body)))
    spoilt = (
        body[:at] + data.draw(st.sampled_from([b"", *PIECES])) + body[at + data.draw(st.integers(0, 2)) :]
    )
    whole = in_pieces(spoilt, len(spoilt) + 1)
    assert (whole != "refused") is is_json_text(spoilt)
    assert in_pieces(spoilt, size) == whole


SHORT_NONSENSE = {name: body for name, body in NOT_JSON.items() if len(body) < 1000}


@pytest.mark.parametrize("body", SHORT_NONSENSE.values(), ids=SHORT_NONSENSE)
def test_what_is_not_one_json_text_is_refused_wherever_it_is_cut(body: bytes) -> None:
    assert {in_pieces(body, size) for size in SIZES} == {"refused"}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"[1,", "input data was truncated"),
        (b"[1,]", "trailing comma in array at byte 3"),
        (b'{"a" 1}', "expected ':' at byte 5"),
        (b"1 2", "trailing characters at byte 3"),
        (b'["a\xff"]', "not UTF-8 at byte 3"),
        (b"[" + b"1," * PIECE_BYTES + b"]", f"trailing comma in array at byte {1 + 2 * PIECE_BYTES}"),
        (b"[" + b"1," * PIECE_BYTES + b'{"a":}]', f"invalid character at byte {1 + 2 * PIECE_BYTES + 5}"),
        (b"[" * 5000, "nested too deeply"),
    ],
    ids=range(8),
)
def test_a_refusal_names_what_is_wrong_and_where(body: bytes, named: str) -> None:
    with pytest.raises(InvalidJson, match=re.escape(f"Invalid JSON: {named}")):
        to_messages(body)


SIZE = 300_000
LONG = {
    "digits": b"[" + b"1," * (SIZE // 2) + b"1]",
    "empty objects": b"[" + b"{}," * (SIZE // 3) + b"1]",
    "one message of objects": b"[[" + b"{}," * (SIZE // 3) + b"1]]",
    "one object": b"{" + b'"a":1,' * (SIZE // 6) + b'"b":2}',
    "one lone surrogate": b"[" + b"{}," * (SIZE // 6) + rb'"\ud800",' + b"{}," * (SIZE // 6) + b"1]",
    "lone surrogates": b"[" + rb'"\ud800",' * (SIZE // 9) + b"1]",
    "deep arrays": b"[" + (b"[" * 500 + b"]" * 500 + b",") * (SIZE // 1001) + b"1]",
    "one number": b"1" * SIZE,
    "one fraction": b"0." + b"1" * SIZE,
    "one exponent": b"1e" + b"1" * SIZE,
    "white space before": b" " * SIZE + b"1",
    "white space within": b"[1" + b" " * SIZE + b",2]",
    "one string": b'"' + b"x" * SIZE + b'"',
    "one string of escapes": b'"' + rb"\n" * (SIZE // 2) + b'"',
    "one string of backslashes": b'"' + rb"\\" * (SIZE // 2) + b'"',
    "one string of characters": b'"' + "\N{EURO SIGN}".encode() * (SIZE // 3) + b'"',
    "one long name": b'[{"' + b"x" * SIZE + b'":1}]',
    "empty strings": b"[" + b'"",' * (SIZE // 3) + b"1]",
}


def steps(body: bytes) -> Iterator[int]:
    """How many bytes of the stored form each step gives."""
    for piece in stored_pieces(body):
        yield len(piece)


@pytest.mark.parametrize("body", LONG.values(), ids=LONG)
def test_a_long_body_is_stored_like_a_short_one_and_in_small_steps(body: bytes) -> None:
    stored = b"".join(stored_pieces(body))
    assert stored == in_pieces(body, 1 << 30)
    assert max(steps(body)) <= 2 * PIECE_BYTES


@pytest.mark.parametrize(
    "name", ["digits", "empty objects", "one lone surrogate", "lone surrogates", "empty strings"]
)
def test_a_long_body_of_tiny_elements_takes_little_more_memory_than_itself(name: str) -> None:
    """The stored form, its pieces before they are joined, and the elements of one piece, each 40 bytes or more."""
    body = LONG[name]
    piece_bytes_max = 4 * 1024 * 1024
    tracemalloc.start()
    try:
        stored = b"".join(stored_pieces(body))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= 2 * len(stored) + piece_bytes_max


LONG_NONSENSE = {
    "digits without an end": (b"[" + b"1," * (SIZE // 2), SIZE),
    "open brackets": (b"[" * SIZE, 0),
    "open objects": (b'{"a":' * (SIZE // 5), 0),
    "strings without commas": (b"[" + b'""' * (SIZE // 2) + b"]", 0),
    "letters": (b"x" * SIZE, 0),
    "colons": (b":" * SIZE, 0),
}


@pytest.mark.parametrize(("body", "most"), LONG_NONSENSE.values(), ids=LONG_NONSENSE)
def test_long_nonsense_is_refused_where_it_begins(body: bytes, most: int) -> None:
    taken: list[int] = []
    with pytest.raises(InvalidJson):
        taken.extend(steps(body))
    assert sum(taken) <= most


def test_a_long_array_of_alike_messages_is_cut_by_guessing() -> None:
    """A guess costs a fifth of a look, and must be right whatever stands in the strings."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chosen = random.Random(seed)
    texts = ["plain", "},", '"},{"', "],[", "\\", '\\"', "\N{EURO SIGN}", "\ud800"]
    messages = [{"n": number, "text": "".join(chosen.choices(texts, k=4))} for number in range(5000)]
    for kind in (messages, [[message] for message in messages], [message["text"] for message in messages]):
        body = json.dumps(kind).encode()
        assert json.loads(to_array(to_messages(body))) == kind


# -- limit ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 100, 3 * PIECE_BYTES])
def test_more_messages_than_the_limit_are_refused_and_no_fewer(count: int) -> None:
    body = b"[" + b",".join([b"1"] * count) + b"]"
    assert to_messages(body, count).count(b"\n") == count
    if count > 1:
        with pytest.raises(TooManyMessages, match=f"limit of {count - 1}"):
            to_messages(body, count - 1)


def test_a_message_counts_once_however_many_pieces_it_has(piece_bytes: int) -> None:
    body = (
        b'[[1,2,3,{"a":"bcdefghijklmnopqrstuvwxyz"}],"0123456789012345678901234567890",12345678901234567890]'
    )
    assert to_messages(body, 3).count(b"\n") == 3
    with pytest.raises(ProtocolError):
        to_messages(body, 2)
