"""Listing names: in the order of their code points, by prefix, in pages, whatever the characters are."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.contract.driving import Streams

NAMES = (
    "a",
    "a/b",
    "a/b/c",
    "a0",
    "a\x7f",
    "b\n",
    "b/\u00e9",
    "b/\u00ea",
    "b\ud7ff",
    "b\ud7ff/x",
    "b\ue000",
    "\uffff",
    "\U0010ffff",
    "\U0010ffff/\U0010ffff",
)
"""Among them the last character before the surrogates, and the last of all."""
PREFIXES = ("", "a", "a/", "a/b", "b", "b/\u00e9", "b\ud7ff", "\U0010ffff", "\U0010ffff/", "nothing", "~")


@pytest.fixture
def named(streams: Streams) -> Streams:
    for name in reversed(NAMES):
        streams.create(name)
    # What is removed is listed no more, and what took its place once.
    for name in ("a/gone", "b\ud7ff"):
        streams.create(name)
        streams.remove(name)
    streams.create("b\ud7ff")
    return streams


def test_the_names_of_this_module_are_in_order() -> None:
    assert all(before < after for before, after in pairwise(NAMES))


def test_names_are_listed_by_prefix_in_order(named: Streams) -> None:
    for prefix in PREFIXES:
        expected = [name for name in NAMES if name.startswith(prefix)]
        assert named.store.names(prefix, "", 100) == expected, prefix


def test_pages_continue_behind_the_last_name(named: Streams) -> None:
    for prefix in PREFIXES:
        expected = [name for name in NAMES if name.startswith(prefix)]
        found: list[str] = []
        while page := named.store.names(prefix, found[-1] if found else "", 2):
            assert len(page) <= 2
            found += page
        assert found == expected, prefix


def test_after_may_be_any_text(named: Streams) -> None:
    for prefix in PREFIXES:
        for after in ("0", "a/b/b", "b/", "b\ud7ff/", "zzz", "\U0010ffff\U0010ffff"):
            expected = [name for name in NAMES if name.startswith(prefix) and name > after]
            assert named.store.names(prefix, after, 100) == expected, (prefix, after)
