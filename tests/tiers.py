"""Which tests are run how often, and in which pieces they are dealt out to test processes.

A test is in exactly one tier, by its module or its folder; one that is marked `long`, or has a parameter that is, is in
that tier.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from xdist.scheduler import LoadScopeScheduling

TESTS: Final = Path(__file__).resolve().parent


class Tier(StrEnum):
    """The names are pytest markers; `make test-fast`, `make test` and `make test-long` choose by them."""

    FAST = "fast"
    STANDARD = "standard"
    LONG = "long"


FAST: Final = frozenset(
    {
        "access",
        "config",
        "live",
        "metrics",
        "otel",
        "openapi",
        "protocol",
        "storage",
        "streams",
        "telemetry",
        "traffic",
        "web",
        "test_architecture.py",
        "test_documents.py",
        "test_persistent_map.py",
    }
)
"""Folders and modules below tests/ whose tests start no server and wait for no disk."""
LONG: Final = frozenset(
    {
        "benchmarks/test_storage_costs.py",
        "browser/test_http2.py",
        "cli/test_keys.py",
        "cli/test_maintenance.py",
        "cli/test_refusals.py",
        "contract/test_copying.py",
        "crash/test_checking.py",
        "crash/test_full_disk.py",
        "engines/test_faults.py",
        "engines/test_power_cut.py",
        "openapi/test_schemathesis.py",
        "postgres/test_procfile.py",
        "postgres/test_workers.py",
        "proxies",
        "server/test_bombs.py",
        "server/test_damage.py",
        "server/test_deaf_readers.py",
        "server/test_reloading.py",
        "server/test_starting.py",
        "server/test_surroundings.py",
        "test_packaging.py",
        "worker/test_vanishing_readers.py",
    }
)
"""Folders and modules below tests/ that take minutes."""
SLOWEST_FIRST: Final = ("conformance", "crash", "clients", "postgres", "cli", "worker", "server")
"""Begun last, what takes long would keep one process busy while the others have nothing to do."""
SMALLEST_LAST: Final = ("contract",)
"""Dealt out test by test, so that all processes end at once."""
APART: Final = ("conformance", "contract")
"""Folders whose tests share nothing, so that each may run in any process."""
# Of tests/clients, those that share a server: `[http-memory-catch-up-text]` is on the server `http-memory`.
_SERVER: Final = re.compile(r"\[(https?-.+?)-(?:catch-up|long-poll|sse)\b")


@cache
def folder_of(path: Path) -> str:
    """The folder below tests/ that holds the test module, or the module's own name."""
    return path.relative_to(TESTS).parts[0]


@cache
def _tier_of_module(path: Path) -> Tier:
    if {folder_of(path), str(path.relative_to(TESTS))} & LONG:
        return Tier.LONG
    return Tier.FAST if folder_of(path) in FAST else Tier.STANDARD


def tier_of(item: pytest.Item) -> Tier:
    return Tier.LONG if item.get_closest_marker(Tier.LONG) else _tier_of_module(item.path)


def place_of(item: pytest.Item) -> int:
    """Where in the order of a run a test stands."""
    folder = folder_of(item.path)
    if folder in SLOWEST_FIRST:
        return SLOWEST_FIRST.index(folder)
    return len(SLOWEST_FIRST) + (folder in SMALLEST_LAST)


class PiecesScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Deals out modules and classes whole, so that they share their server, but for folders that are `APART`."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(tuple(f"tests/{folder}/" for folder in APART)):
            return nodeid
        server = _SERVER.search(nodeid)
        scope: str = super()._split_scope(nodeid)
        return f"{scope}[{server[1]}]" if server else scope
