"""Glob patterns, alone and many at once (section 6.2), against a matcher that is written as the rule is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.protocol.subscriptions.globs import Glob, GlobTree, literal_prefix


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("events/*", "events/a", True),
        ("events/*", "events/a/b", False),
        ("events/*", "events", False),
        ("events/**", "events", True),
        ("events/**", "events/a", True),
        ("events/**", "events/a/b", True),
        ("events/**", "eventsa", False),
        ("**", "a", True),
        ("**", "a/b/c", True),
        ("a/**/z", "a/z", True),
        ("a/**/z", "a/b/c/z", True),
        ("a/**/z", "a/b/c", False),
        ("*/*", "a", False),
        ("**/*", "a", True),
        ("a/**/**/z", "a/z", True),
        # Only a whole segment is a wildcard.
        ("a*", "ab", False),
        ("a*", "a*", True),
        ("a/***", "a/b", False),
        # A name may look like a pattern; it is one only for itself.
        ("*", "*", True),
        ("**", "**", True),
        ("a/**", "a/*/**", True),
        ("b", "*", False),
    ],
)
def test_a_pattern_matches_by_segments(pattern: str, name: str, matches: bool) -> None:
    assert Glob(pattern).matches(name) is matches


def as_said(pattern: list[str], name: list[str]) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "**":
        return any(as_said(pattern[1:], name[skipped:]) for skipped in range(len(name) + 1))
    return bool(name) and pattern[0] in ("*", name[0]) and as_said(pattern[1:], name[1:])


SEGMENTS = st.sampled_from(["a", "b", "*", "**"])
NAMES = st.lists(st.sampled_from(["a", "b", "c", "*"]), min_size=1, max_size=5).map("/".join)
PATTERNS = st.lists(SEGMENTS, min_size=1, max_size=6).map("/".join)


@given(st.lists(PATTERNS, max_size=8), st.lists(PATTERNS, max_size=4), NAMES)
def test_many_patterns_match_as_each_would_alone(kept: list[str], dropped: list[str], name: str) -> None:
    tree: GlobTree[str] = GlobTree()
    for pattern in [*kept, *dropped]:
        tree.add(pattern, pattern)
    for pattern in dropped:
        tree.discard(pattern, pattern)
    left = set(kept) - set(dropped)
    assert len(tree) == len(left)
    assert set(tree.matching(name)) == {
        pattern for pattern in left if as_said(pattern.split("/"), name.split("/"))
    }


@given(PATTERNS, NAMES)
def test_every_match_begins_with_the_literal_prefix(pattern: str, name: str) -> None:
    if as_said(pattern.split("/"), name.split("/")):
        assert name.startswith(literal_prefix(pattern))


@pytest.mark.parametrize(
    ("pattern", "prefix"),
    [("events/*", "events/"), ("events/**", "events"), ("a/b", "a/b"), ("*", ""), ("**/a", "")],
)
def test_the_literal_prefix_is_as_long_as_it_can_be(pattern: str, prefix: str) -> None:
    assert literal_prefix(pattern) == prefix


def test_a_tree_that_is_emptied_keeps_nothing() -> None:
    tree: GlobTree[int] = GlobTree()
    tree.add("a/**/b", 1)
    tree.discard("a/**/b", 2)
    tree.discard("a/c", 1)
    assert tree.matching("a/b") == [1]
    tree.discard("a/**/b", 1)
    assert len(tree) == 0
    assert tree._root.children == {}


def test_a_pattern_of_many_double_stars_costs_no_more_than_their_number() -> None:
    """The attack on a backtracking matcher. Visited nodes are counted, not seconds."""
    pattern = "/".join(["**", "a"] * 30)
    tree: GlobTree[int] = GlobTree()
    tree.add(pattern, 1)
    visited = 0

    class Counting(dict):  # type: ignore[type-arg]
        def get(self, key, default=None):  # type: ignore[no-untyped-def]
            nonlocal visited
            visited += 1
            return super().get(key, default)

    def instrument(node):  # type: ignore[no-untyped-def]
        for child in node.children.values():
            instrument(child)
        node.children = Counting(node.children)

    instrument(tree._root)
    name = "/".join(["a"] * 60 + ["b"])
    assert tree.matching(name) == []
    assert visited <= 2 * 61 * 61
