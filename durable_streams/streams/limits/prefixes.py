"""Rules for the streams of a name prefix: which of them hold for one stream."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Generic, TypeVar

from durable_streams.protocol.names import is_reserved

NAMES_REMEMBERED: Final = 8192
T = TypeVar("T")


class PrefixRules(Generic[T]):
    """Values by the beginnings of names. Internal streams have none."""

    def __init__(self, rules: Iterable[tuple[str, T]]) -> None:
        self._rules = sorted(rules, key=lambda rule: len(rule[0]), reverse=True)
        self.all_of = lru_cache(NAMES_REMEMBERED)(self._all_of)
        """All values for a name, that of the longest prefix first."""

    def _all_of(self, name: str) -> tuple[T, ...]:
        if is_reserved(name):
            return ()
        return tuple(value for prefix, value in self._rules if name.startswith(prefix))
