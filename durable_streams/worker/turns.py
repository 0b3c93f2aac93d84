"""How much is done for one connection at a time, and how the others get their turn."""

from __future__ import annotations

from typing import Any, Final

from gevent import get_hub

TURN_BYTES: Final = 256 * 1024
"""After so many bytes, in or out, the other connections get a turn."""


def yield_to_loop(sock: Any) -> None:
    """Let everybody go first for whom there is something to do. `sleep(0)` would not look for that up to 5 ms."""
    get_hub().wait(sock._write_event)
