"""Content types: what is kept as it was sent, what two are compared by, and which modes follow from them."""

from __future__ import annotations

import pytest

from durable_streams.protocol.content import (
    check_content_type,
    is_json,
    is_text,
    media_type,
)
from durable_streams.protocol.errors import BadRequest


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
