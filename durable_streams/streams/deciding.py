"""The table request -> rule: a request and the state of its stream become a decision, or a refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from durable_streams.protocol.appending import decide_append, decide_extend
from durable_streams.protocol.creating import decide_create, decide_replace
from durable_streams.protocol.forking import (
    decide_add_fork,
    decide_remove,
    decide_remove_fork,
    decide_touch,
)
from durable_streams.protocol.outcomes import Decision
from durable_streams.protocol.requests import (
    AddFork,
    Append,
    Create,
    Extend,
    Remove,
    RemoveFork,
    Replace,
    Request,
    StreamLimits,
    Touch,
)
from durable_streams.protocol.state import StreamState

_RULES: Final[dict[type, Callable[[StreamState | None, Any, float, StreamLimits], Decision]]] = {
    Append: decide_append,
    Create: decide_create,
    Remove: decide_remove,
    AddFork: decide_add_fork,
    RemoveFork: decide_remove_fork,
    Touch: decide_touch,
    Replace: decide_replace,
    Extend: decide_extend,
}


def decide(found: StreamState | None, request: Request, now: float, limits: StreamLimits) -> Decision:
    """What ``request`` does to ``found`` (None: no such stream) at ``now`` (seconds since 1970).

    Pure: changes nothing and may be asked again. Raises the ProtocolError that refuses the request.
    """
    return _RULES[type(request)](found, request, now, limits)
