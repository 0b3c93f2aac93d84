"""Splitting JSON bodies before a request is decided: outside the pipeline, and long ones with turns for everybody else.

What is wrong with a body is kept in its place: whether the stream is there and takes the request is looked at first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from time import monotonic
from typing import Final

from gevent.lock import BoundedSemaphore

from durable_streams.eventloop.turns import yield_to_loop
from durable_streams.protocol.content import is_json
from durable_streams.protocol.errors import ProtocolError
from durable_streams.protocol.messages.placing import to_unfilled, with_places
from durable_streams.protocol.messages.splitting import PIECE_BYTES, stored_pieces, to_messages
from durable_streams.protocol.requests import Append, Create, Messages

HasOffsets = Callable[[str], bool]
"""Whether the messages of the stream of that name have offsets, as far as this process knows."""

TURN_S: Final = 0.002
"""How long a body is split before everybody else gets a turn."""


class Splitter:
    """Splits the bodies of one store; long ones one at a time, for together they would hold the loop."""

    def __init__(self, messages_max: int) -> None:
        """``messages_max``: JSON messages in one body; 0 means no limit."""
        self._messages_max = messages_max
        self._long_body = BoundedSemaphore(1)

    def split_append(self, request: Append, has_offsets: HasOffsets) -> None:
        """Fill in the messages of ``request`` if it is JSON; ``has_offsets(name)`` is asked only then."""
        if request.body and request.content_type is not None and is_json(request.content_type):
            request.messages = self._split(request.body, has_offsets(request.name))

    def split_create(self, request: Create) -> Create:
        """``request`` with its messages if it is JSON; a fork waits for what it inherits from its source."""
        if request.fork is not None and request.fork_point is None:
            return request
        if (
            request.messages is None
            and request.body
            and request.content_type is not None
            and is_json(request.content_type)
        ):
            return replace(request, messages=self._split(request.body, request.gets_message_offsets))
        return request

    def _split(self, body: bytes, has_offsets: bool) -> Messages:
        try:
            if len(body) <= PIECE_BYTES:
                stored = to_messages(body, self._messages_max)
                return to_unfilled(with_places(stored), len(stored)) if has_offsets else stored
            with self._long_body:
                stored = b"".join(_with_turns(stored_pieces(body, self._messages_max)))
                return to_unfilled(_with_turns(with_places(stored)), len(stored)) if has_offsets else stored
        except ProtocolError as refusal:
            return refusal


def _with_turns(pieces: Iterator[bytes]) -> Iterator[bytes]:
    until = monotonic() + TURN_S
    for piece in pieces:
        yield piece
        if monotonic() >= until:
            yield_to_loop()
            until = monotonic() + TURN_S
