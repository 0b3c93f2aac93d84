"""Events of subscriptions as bytes: a line of JSON for each step, ``[["Acked",{...}],["Ended",{...}]]``.

A line is appended in one commit, so a step is there as a whole or not at all. Fields that a reader does not know are
ignored and fields that a writer did not know have their defaults; an unknown event makes the history unreadable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, get_args

import msgspec

from durable_streams.protocol.subscriptions import events

_encode: Final = msgspec.json.Encoder().encode
_split: Final = msgspec.json.Decoder(list[tuple[str, msgspec.Raw]]).decode
_DECODERS: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    kind.__name__: msgspec.json.Decoder(kind) for kind in get_args(events.Event)
}


class UnreadableRecord(Exception):
    """A line that this version cannot read."""


def encode_step(step: Iterable[events.Event]) -> bytes:
    """The line of events that stand or fall together."""
    return _encode([(type(event).__name__, event) for event in step]) + b"\n"


def decode_steps(body: bytes) -> Iterator[events.Event]:
    """The events of all lines in their order; raises UnreadableRecord."""
    for line in body.splitlines():
        try:
            for name, fields in _split(line):
                yield _DECODERS[name].decode(fields)
        except (msgspec.MsgspecError, KeyError) as exc:
            raise UnreadableRecord(f"{line[:100]!r}: {exc!r}") from exc
