"""Mappings that never change: a new one with one entry more or less shares almost everything with the old one.

A state that is copied must not cost as much as it remembers: a stream may know 100,000 producers. Few entries are an
ordinary dict, copied at each change. Many are a tree: nodes are lists, leaves are dicts of at most ``LEAF_MAX``
entries, and the bits of a key's hash are the path to its leaf. A change copies one leaf and the nodes above it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar

FEW_MAX: Final = 64
"""Up to here copying the whole dict costs less than copying a path of a tree."""
LEAF_MAX: Final = 32
_BITS: Final = 4
_CHILDREN: Final = 1 << _BITS
_MASK: Final = _CHILDREN - 1
_PATH_BITS: Final = 28
_PATH: Final = (1 << _PATH_BITS) - 1
"""The part of a hash that is a path: Python calculates with so many bits at once. Keys that share them share a leaf."""

V = TypeVar("V")
Node = Any
"""A leaf (dict), or a list of ``_CHILDREN`` nodes. Neither is changed once others can see it."""


class TreeMap(Mapping[str, V]):
    """Many entries; made by the functions of this module."""

    __slots__ = ("_root", "_size")

    def __init__(self, root: Node, size: int) -> None:
        self._root = root
        self._size = size

    def __getitem__(self, key: str) -> V:
        value: V = _leaf_at(self._root, hash(key) & _PATH)[key]
        return value

    def get(self, key: str, default: Any = None) -> Any:
        # The two steps of every append, this and `with_entry`, call no function on their way down.
        node, path = self._root, hash(key) & _PATH
        while type(node) is list:
            node = node[path & _MASK]
            path >>= _BITS
        return node.get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in _leaf_at(self._root, hash(key) & _PATH)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[str]:
        for leaf in _leaves(self._root):
            yield from leaf


def compact(entries: dict[str, V]) -> Mapping[str, V]:
    """``entries`` themselves, or a tree of them when they are many; the dict must not be changed afterwards."""
    return entries if len(entries) <= FEW_MAX else TreeMap(_split(entries, 0), len(entries))


def with_entry(entries: Mapping[str, V], key: str, value: V) -> Mapping[str, V]:
    """``entries`` where ``key`` has ``value``."""
    if type(entries) is not TreeMap:
        return compact({**entries, key: value})
    root = node = entries._root.copy()
    path, shift = hash(key) & _PATH, _BITS
    child = node[path & _MASK]
    while type(child) is list:
        node[path & _MASK] = node = child.copy()
        path >>= _BITS
        shift += _BITS
        child = node[path & _MASK]
    leaf = child.copy()
    leaf[key] = value
    node[path & _MASK] = leaf if len(leaf) <= LEAF_MAX else _split(leaf, shift)
    return TreeMap(root, entries._size + len(leaf) - len(child))


def without_entry(entries: Mapping[str, V], key: str) -> Mapping[str, V]:
    """``entries`` without ``key``; the same object when it has none."""
    if key not in entries:
        return entries
    if type(entries) is not TreeMap:
        return {other: value for other, value in entries.items() if other != key}
    if entries._size <= LEAF_MAX:
        return without_entry(dict(entries), key)
    return TreeMap(_without(entries._root, hash(key) & _PATH, key), entries._size - 1)


def some_entries(entries: Mapping[str, V], number: int) -> Mapping[str, V]:
    """At most ``FEW_MAX`` entries; all are seen in turn when ``number`` counts up, from wherever it starts."""
    if type(entries) is not TreeMap:
        return entries
    leaf: Mapping[str, V] = _leaf_at(entries._root, number & _PATH)
    return leaf


def _leaf_at(node: Node, path: int) -> dict[str, Any]:
    while type(node) is list:
        node = node[path & _MASK]
        path >>= _BITS
    leaf: dict[str, Any] = node
    return leaf


def _without(node: Node, path: int, key: str) -> Node:
    if type(node) is not list:
        return {other: value for other, value in node.items() if other != key}
    copy, index = node.copy(), path & _MASK
    copy[index] = _without(copy[index], path >> _BITS, key)
    return copy


def _split(entries: dict[str, Any], shift: int) -> Node:
    """A node of ``entries``, whose hashes are the same below bit ``shift``; the root of a tree is always a list."""
    if shift and (len(entries) <= LEAF_MAX or shift >= _PATH_BITS):
        return entries
    parts: list[dict[str, Any]] = [{} for _ in range(_CHILDREN)]
    for key, value in entries.items():
        parts[hash(key) >> shift & _MASK][key] = value
    return [_split(part, shift + _BITS) for part in parts]


def _leaves(node: Node) -> Iterator[dict[str, Any]]:
    if type(node) is not list:
        yield node
        return
    for child in node:
        yield from _leaves(child)
