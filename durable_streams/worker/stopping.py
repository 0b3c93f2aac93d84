"""Who is told that the worker stops: the live waits first, the storage last.

The services among the extensions of a Flask app are told without registering. Other applications, or one inside
middleware, register.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

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


def services_of(app: Any) -> list[Any]:
    """The extensions of a Flask app that can be told of a stop; none of any other app."""
    extensions = getattr(app, "extensions", None)
    if not isinstance(extensions, dict):
        return []
    return [found for found in extensions.values() if hasattr(found, "stop_live") and hasattr(found, "close")]


def _of(app: Any, name: str) -> list[Hook]:
    return [getattr(service, name) for service in services_of(app)]


def _call_all(hooks: list[Hook], log: Any) -> None:
    for hook in hooks:
        try:
            hook()
        except Exception:
            # A stop goes on whatever one of them thinks of it.
            log.exception("a hook of the stop has failed: %r", hook)
