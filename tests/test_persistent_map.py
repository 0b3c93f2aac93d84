"""Mappings that share what has not changed: held against a plain dict, over growth, shrinking and equal hashes."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.persistent_map import (
    FEW_MAX,
    LEAF_MAX,
    TreeMap,
    compact,
    some_entries,
    with_entry,
    without_entry,
)


class Colliding(str):
    """All keys of this kind have one hash."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 7


KEYS = st.integers(0, 300).map("key {}".format) | st.integers(0, 80).map(lambda n: Colliding(f"same {n}"))
STEPS = st.lists(st.tuples(KEYS, st.none() | st.integers()), max_size=400)


def check(entries: Mapping[str, int], model: Mapping[str, int]) -> None:
    assert dict(entries) == dict(model)
    assert len(entries) == len(model)
    assert set(entries) == set(model)
    for key in model:
        assert entries[key] == entries.get(key) == model[key]
        assert key in entries
    assert "absent" not in entries
    assert entries.get("absent", 5) == 5
    with pytest.raises(KeyError):
        entries["absent"]


@given(st.dictionaries(KEYS, st.integers(), max_size=200), STEPS)
def test_any_steps_leave_what_a_dict_would_hold_and_older_versions_as_they_were(
    start: dict[str, int], steps: list[tuple[str, int | None]]
) -> None:
    entries, model = compact(dict(start)), dict(start)
    older: list[tuple[Mapping[str, int], dict[str, int]]] = []
    for number, (key, value) in enumerate(steps):
        if number % 50 == 0:
            older.append((entries, dict(model)))
        if value is None:
            entries = without_entry(entries, key)
            model.pop(key, None)
        else:
            entries = with_entry(entries, key, value)
            model[key] = value
    check(entries, model)
    for version, held in older:
        assert dict(version) == held


def test_a_large_mapping_grows_and_shrinks_to_nothing() -> None:
    seed = Random().randrange(10**9)
    print(f"seed {seed}")
    random, model = Random(seed), {}
    entries: Mapping[str, int] = {}
    for number in range(3000):
        key = f"key {random.randrange(2000)}"
        entries, model[key] = with_entry(entries, key, number), number
    check(entries, model)
    assert isinstance(entries, TreeMap)
    keys = list(model)
    random.shuffle(keys)
    for key in keys:
        entries = without_entry(entries, key)
        del model[key]
        assert len(entries) == len(model)
    assert entries == {}
    assert not isinstance(entries, TreeMap)


def test_what_is_not_there_cannot_be_taken_away() -> None:
    for count in (0, 1, FEW_MAX, FEW_MAX + 1, 1000):
        entries = compact({f"key {number}": number for number in range(count)})
        assert without_entry(entries, "absent") is entries


def test_counting_up_shows_every_entry_a_few_at_a_time() -> None:
    for count in (0, 1, FEW_MAX, FEW_MAX + 1, 5000):
        model = {f"key {number}": number for number in range(count)}
        entries, seen = compact(model), {}
        for number in range(12_345, 12_345 + 16**3):
            few = some_entries(entries, number)
            assert len(few) <= max(FEW_MAX, LEAF_MAX)
            seen.update(few)
        assert seen == model


def test_a_change_of_many_entries_copies_few() -> None:
    """Counted by what is not shared: the nodes on the path of one key, and its leaf."""
    before = compact({f"key {number}": number for number in range(50_000)})
    after = with_entry(before, "key 7", -1)
    assert isinstance(before, TreeMap)
    assert isinstance(after, TreeMap)
    new = nodes(after._root).keys() - nodes(before._root).keys()
    assert 1 <= len(new) <= 6


def nodes(node: object) -> dict[int, object]:
    """Every node below ``node`` by its identity."""
    found = {id(node): node}
    if isinstance(node, list):
        for child in node:
            found |= nodes(child)
    return found
