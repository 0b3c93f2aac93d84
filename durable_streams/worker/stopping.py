"""Whom the worker tells that it stops: the live waits first, the storage last.

A Flask app with our extension is told by itself. Other applications, or one hidden in middleware, register.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

EXTENSION: Final = "durable_streams"

Hook = Callable[[], object]

_when_stopping: Final[list[Hook]] = []
_when_stopped: Final[list[Hook]] = []


def on_drain(hook: Hook) -> None:
    """Call ``hook()`` in the worker when its stop begins: everything that waits has to come to its end."""
    _when_stopping.append(hook)


def on_stopped(hook: Hook) -> None:
    """Call ``hook()`` in the worker when nothing is served any more, before its process ends."""
    _when_stopped.append(hook)


def begin_stop(app: Any, log: Any) -> None:
    """End the live waits."""
    _call_all([*_of(app, "stop_live"), *_when_stopping], log)


def end_stop(app: Any, log: Any) -> None:
    """Make durable what was accepted; every hook may block, and must bear to be called twice."""
    _call_all([*_when_stopped, *_of(app, "close")], log)


def service_of(app: Any) -> Any:
    """What our app has put under its extension, or None for any other app."""
    extensions = getattr(app, "extensions", None)
    return extensions.get(EXTENSION) if isinstance(extensions, dict) else None


def _of(app: Any, name: str) -> list[Hook]:
    hook = getattr(service_of(app), name, None)
    return [hook] if callable(hook) else []


def _call_all(hooks: list[Hook], log: Any) -> None:
    for hook in hooks:
        try:
            hook()
        except Exception:
            # A stop goes on whatever one of them thinks of it.
            log.exception("a hook of the stop has failed: %r", hook)
