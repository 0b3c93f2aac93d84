"""The states that a storage keeps in memory, because loading one costs more.

Where other processes change them too, a state is confirmed before an answer rests on it.
"""

from __future__ import annotations

from collections import OrderedDict

from durable_streams.protocol.state import StreamState


class StateCache:
    """The newest known states, by name; the least recently used go first."""

    def __init__(self, states_max: int) -> None:
        self._states: OrderedDict[str, StreamState] = OrderedDict()
        self._states_max = states_max

    def get(self, name: str) -> StreamState | None:
        state = self._states.get(name)
        if state is not None:
            self._states.move_to_end(name)
        return state

    def put(self, name: str, state: StreamState | None) -> None:
        """``state`` is now recorded; None when there is no such stream."""
        if state is None:
            self._states.pop(name, None)
            return
        self._states[name] = state
        self._states.move_to_end(name)
        if len(self._states) > self._states_max:
            self._states.popitem(last=False)

    def clear(self) -> None:
        self._states.clear()
