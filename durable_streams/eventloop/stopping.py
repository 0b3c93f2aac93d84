"""The stop of this process: who is told when it begins, and who is told when nothing is served any more.

A stop has two steps. At its beginning everything that waits is told to come to its end, so that requests can finish
(``drain``); when they have, what is open is closed, the storage last (``finish``). StreamWorker, or the
server's hooks under another worker, calls each once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final

Hook = Callable[[], object]

_on_drain: Final[dict[Hook, None]] = {}
_on_stopped: Final[dict[Hook, bool]] = {}

log = logging.getLogger("durable_streams.stopping")


def on_drain(hook: Hook) -> None:
    """Call ``hook()`` when the stop of this process begins: everything that waits must end."""
    _on_drain[hook] = None


def on_stopped(hook: Hook, *, last: bool = False) -> None:
    """Call ``hook()`` when nothing is served any more. ``last``: after all others, which may still use it."""
    _on_stopped[hook] = last


def forget(*hooks: Hook) -> None:
    """These hooks are no longer called."""
    for hook in hooks:
        _on_drain.pop(hook, None)
        _on_stopped.pop(hook, None)


def drain() -> None:
    """Begin the stop. Hooks must be idempotent."""
    _call_all(list(_on_drain))


def finish() -> None:
    """End the stop. Hooks may block, and must be idempotent."""
    _call_all(sorted(_on_stopped, key=lambda hook: _on_stopped[hook]))


def _call_all(hooks: Iterable[Hook]) -> None:
    for hook in hooks:
        try:
            hook()
        except Exception:
            # A hook that fails does not end the stop.
            log.exception("a hook of the stop has failed: %r", hook)
