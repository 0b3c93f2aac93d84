"""A stream state in which every field differs from its default, and its comparison: both derived from the classes.

A field that is added to a state, or to what a state is made of, is in every test that uses these from then on.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from itertools import count
from typing import Any

from durable_streams.protocol.state import StreamState

OF_THE_STORAGE = "mark"
"""The field that no other storage, and no file, has."""


def plain(value: Any) -> Any:
    """A state as something that can be compared."""
    if is_dataclass(value) and not isinstance(value, type):
        names = (each.name for each in fields(value) if each.name != OF_THE_STORAGE)
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    return value


def full_state(own: bytes) -> StreamState:
    """A state of a stream with those own bytes; no field is as in a state that says nothing of it."""
    state = _filled(StreamState, count(3))
    assert isinstance(state, StreamState)
    return replace(state, tail=state.config.forked_at + len(own))


def empty_state(own: bytes) -> StreamState:
    """The same stream with nothing but what every state has to say."""
    full = full_state(own)
    return StreamState(full.config, full.tail, 1.0)


def _filled(kind: Any, numbers: Iterator[int]) -> Any:
    if is_dataclass(kind) or hasattr(kind, "_fields"):
        return kind(**{name: _filled(part, numbers) for name, part in _parts(kind)})
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Mapping:
        return {_filled(part, numbers): _filled(parts[1], numbers) for part in parts[:1] * 2}
    if origin is tuple:
        return tuple(_filled(part, numbers) for part in parts)
    if origin in (types.UnionType, typing.Union):
        return _filled(next(part for part in parts if part is not types.NoneType), numbers)
    number = next(numbers)
    plain_values = {bool: True, int: number, float: number + 0.5, str: f"value{number}", object: None}
    # A field of a kind that is new here fails with its name.
    return plain_values[kind]


def _parts(kind: Any) -> list[tuple[str, Any]]:
    hints = typing.get_type_hints(kind)
    names = [each.name for each in fields(kind) if each.init] if is_dataclass(kind) else kind._fields
    return [(name, hints[name]) for name in names]
