"""Stream names: which are allowed, and the words in which the others are refused, in the order of the checks."""

from __future__ import annotations

import pytest

from durable_streams.protocol.errors import InvalidStreamName, RouteNotFound
from durable_streams.protocol.names import check_name

BYTES_MAX, SEGMENTS_MAX = 1024, 8


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "a/b/c",
        "v1.2",
        "..foo",
        "foo..",
        "...",
        ".hidden",
        "a b",
        "%2F",
        "a?b#c",
        "__dsx",
        "_ds",
        "a/__ds",
        "__DS",
        "\N{EURO SIGN}/\N{GRINNING FACE}",
        "line\nbreak",
        "a" * BYTES_MAX,
        "\N{EURO SIGN}" * (BYTES_MAX // 3),
        "/".join("abcdefgh"),
    ],
    ids=lambda name: repr(name)[:20],
)
def test_a_name_within_the_limits_is_allowed(name: str) -> None:
    assert check_name(name, BYTES_MAX, SEGMENTS_MAX) == name


@pytest.mark.parametrize("name", ["__ds", "__ds/", "__ds/subscriptions/x", "__ds//", "__ds/.."])
def test_the_reserved_prefix_is_never_a_stream(name: str) -> None:
    with pytest.raises(RouteNotFound):
        check_name(name, BYTES_MAX, SEGMENTS_MAX)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "stream name cannot be empty"),
        ("/", "stream name must not end with '/'"),
        ("a/", "stream name must not end with '/'"),
        ("a//", "stream name must not end with '/'"),
        ("/a", "stream name contains empty segments (consecutive '/' characters)"),
        ("a//b", "stream name contains empty segments (consecutive '/' characters)"),
        ("//../a", "stream name contains empty segments (consecutive '/' characters)"),
        (".", "stream name contains invalid segment '.'"),
        ("..", "stream name contains invalid segment '..'"),
        ("a/../b", "stream name contains invalid segment '..'"),
        ("../../etc/passwd", "stream name contains invalid segment '..'"),
        ("a/./b", "stream name contains invalid segment '.'"),
        ("a\0b", "stream name contains a NUL character"),
        ("\0", "stream name contains a NUL character"),
        ("a" * 1025, "stream name is 1025 bytes, which exceeds the maximum of 1024 bytes"),
        (
            "\N{EURO SIGN}" * 342,
            "stream name is 1026 bytes, which exceeds the maximum of 1024 bytes",
        ),
        ("/".join("abcdefghi"), "stream name has 9 path segments, which exceeds the maximum of 8"),
    ],
    ids=lambda text: repr(text)[:30],
)
def test_any_other_name_is_refused_with_its_reason(name: str, reason: str) -> None:
    with pytest.raises(InvalidStreamName) as refused:
        check_name(name, BYTES_MAX, SEGMENTS_MAX)
    assert refused.value.detail == f"Invalid stream name: {reason}"
    assert refused.value.status == 400


def test_a_refused_name_is_refused_again() -> None:
    """Names that were allowed are remembered; the others must not be."""
    for _ in range(2):
        with pytest.raises(InvalidStreamName):
            check_name("a/", BYTES_MAX, SEGMENTS_MAX)
