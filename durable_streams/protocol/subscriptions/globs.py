"""Glob patterns over stream names (section 6.2): `*` is one segment, `**` is any number of them, even none.

Patterns stand in a tree of segments, so one walk over a name finds every pattern that matches it, and one pattern is a
tree with one path. A walk visits each node at most once for a segment: repeated `**` cost no more than their number.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Generic, TypeVar

ONE: Final = "*"
ANY: Final = "**"

K = TypeVar("K")


class _Node(Generic[K]):
    """What may follow the segments that lead here. ``repeats``: a node of `**`, which takes any segment and stays."""

    __slots__ = ("children", "keys", "repeats")

    def __init__(self, repeats: bool = False) -> None:
        self.children: dict[str, _Node[K]] = {}
        self.keys: dict[K, None] = {}
        self.repeats = repeats


class GlobTree(Generic[K]):
    """Patterns with a key each; several keys may have the same pattern."""

    def __init__(self) -> None:
        self._root: _Node[K] = _Node()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, pattern: str, key: K) -> None:
        """Adding the same pair twice is adding it once."""
        node = self._root
        for segment in segments_of(pattern):
            node = node.children.setdefault(segment, _Node(segment == ANY))
        self._size += key not in node.keys
        node.keys[key] = None

    def discard(self, pattern: str, key: K) -> None:
        """Take a pair out, if it is there, with the nodes that no other pattern needs."""
        path = [self._root]
        segments = segments_of(pattern)
        for segment in segments:
            child = path[-1].children.get(segment)
            if child is None:
                return
            path.append(child)
        if key not in path[-1].keys:
            return
        del path[-1].keys[key]
        self._size -= 1
        for parent, segment in zip(reversed(path[:-1]), reversed(segments), strict=True):
            child = parent.children[segment]
            if child.keys or child.children:
                return
            del parent.children[segment]

    def matching(self, name: str) -> list[K]:
        """The keys of all patterns that match ``name``, each once."""
        states = _reachable([self._root])
        for segment in name.split("/"):
            states = _reachable(_after(states, segment))
        return list({key: None for node in states for key in node.keys})


def _after(states: Iterable[_Node[K]], segment: str) -> Iterable[_Node[K]]:
    for node in states:
        if node.repeats:
            yield node
        for edge in (segment, ONE):
            child = node.children.get(edge)
            # A name may have a segment that is written like a wildcard.
            if child is not None and not child.repeats:
                yield child


def _reachable(nodes: Iterable[_Node[K]]) -> list[_Node[K]]:
    """``nodes``, each once, and the `**` below them, which need no segment."""
    found: dict[int, _Node[K]] = {}
    for node in nodes:
        while id(node) not in found:
            found[id(node)] = node
            if ANY not in node.children:
                break
            node = node.children[ANY]
    return list(found.values())


class Glob:
    """One pattern."""

    __slots__ = ("_tree", "pattern")

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self._tree: GlobTree[None] = GlobTree()
        self._tree.add(pattern, None)

    @property
    def prefix(self) -> str:
        """What every name that matches begins with."""
        return literal_prefix(self.pattern)

    def matches(self, name: str) -> bool:
        return bool(self._tree.matching(name))


def segments_of(pattern: str) -> list[str]:
    """The segments of a pattern; `**` twice in a row says the same as once."""
    kept: list[str] = []
    for segment in pattern.split("/"):
        if segment != ANY or kept[-1:] != [ANY]:
            kept.append(segment)
    return kept


def literal_prefix(pattern: str) -> str:
    """What every name that matches begins with: the segments before the first wildcard."""
    literal: list[str] = []
    for segment in segments_of(pattern):
        if segment in (ONE, ANY):
            # `a/**` matches `a` itself, so the slash is no part of the prefix.
            return "/".join(literal) + ("/" if literal and segment == ONE else "")
        literal.append(segment)
    return "/".join(literal)
