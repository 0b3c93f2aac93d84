"""Which subscriptions a stream wakes: explicit links by name, patterns in a tree, and what was found is remembered.

A change of a stream costs one look into one dictionary. Only a name that was not seen since the patterns have changed
is held against them, and not while others wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from durable_streams.protocol.names import is_reserved
from durable_streams.protocol.subscriptions.globs import GlobTree, literal_prefix
from durable_streams.protocol.subscriptions.state import Link, Subscription
from durable_streams.streams.wakes import EVERYTHING, Interest

REMEMBERED_MAX: Final = 200_000
"""Names of which it is remembered whom they wake: about 20 MB."""

Watchers = tuple[str, ...]


class LinkIndex:
    """From stream paths to the ids of subscriptions."""

    def __init__(self) -> None:
        self._explicit: dict[str, dict[str, None]] = {}
        self.interest: Final = Interest(self._explicit)
        """Everything, while there are patterns."""
        self._patterns: GlobTree[str] = GlobTree()
        self._pattern_texts: Counter[str] = Counter()
        self._channels: Counter[str] = Counter()
        """Streams that subscriptions write: no pattern links them, or two subscriptions could wake each other."""
        self._remembered: dict[str, Watchers] = {}
        """Whom a name wakes, where there are patterns."""

    def may_wake(self, path: str) -> bool:
        """Whether anybody is linked to ``path``, or that is not known yet."""
        if not self._pattern_texts:
            return path in self._explicit
        remembered = self._remembered.get(path)
        return remembered is None or bool(remembered)

    def watchers(self, path: str) -> Watchers:
        """The subscriptions that are linked to ``path``."""
        if not self._pattern_texts:
            return tuple(self._explicit.get(path, ()))
        remembered = self._remembered.get(path)
        return self._look_up(path) if remembered is None else remembered

    def add(self, found: Subscription) -> None:
        """Take up the configuration and the explicit links of a subscription that is not there yet."""
        pattern = found.config.pattern
        if pattern is not None:
            self._patterns.add(pattern, found.id)
            self._pattern_texts[pattern] += 1
            self.interest.names = EVERYTHING
        self._channels.update(found.config.channels)
        self._remembered.clear()
        self.link_all(found.id, found.links.values())

    def remove(self, found: Subscription) -> None:
        """Forget what ``add`` and ``link_all`` have taken up."""
        pattern = found.config.pattern
        if pattern is not None:
            self._patterns.discard(pattern, found.id)
            _take(self._pattern_texts, pattern)
            if not self._pattern_texts:
                self.interest.names = self._explicit
        for channel in found.config.channels:
            _take(self._channels, channel)
        self._remembered.clear()
        for path in found.links:
            self.unlink(found.id, path)

    def link_all(self, subscription_id: str, links: Iterable[Link]) -> None:
        """The explicit ones among ``links``."""
        for link in links:
            if link.explicit:
                self._link(subscription_id, link.path)

    def _link(self, subscription_id: str, path: str) -> None:
        self._explicit.setdefault(path, {})[subscription_id] = None
        self._remembered.pop(path, None)

    def unlink(self, subscription_id: str, path: str) -> None:
        ids = self._explicit.get(path)
        if ids is not None and ids.pop(subscription_id, True) is None:
            self._remembered.pop(path, None)
            if not ids:
                del self._explicit[path]

    def may_match(self, path: str) -> bool:
        """Whether patterns link ``path`` at all: it is a stream of clients, and none that a subscription writes."""
        return path not in self._channels and not is_reserved(path)

    def explicit_paths(self) -> list[str]:
        """All streams with an explicit link."""
        return list(self._explicit)

    def prefixes(self) -> list[str]:
        """What a name has to begin with to be linked by a pattern; none of them begins with another."""
        kept: list[str] = []
        for prefix in sorted({literal_prefix(text) for text in self._pattern_texts}):
            if not kept or not prefix.startswith(kept[-1]):
                kept.append(prefix)
        return kept

    def _look_up(self, path: str) -> Watchers:
        found = dict.fromkeys(self._explicit.get(path, ()))
        if self.may_match(path):
            found |= dict.fromkeys(self._patterns.matching(path))
        if len(self._remembered) >= REMEMBERED_MAX:
            self._remembered.clear()
        watchers = self._remembered[path] = tuple(found)
        return watchers


def _take(counts: Counter[str], text: str) -> None:
    counts[text] -= 1
    if not counts[text]:
        del counts[text]
