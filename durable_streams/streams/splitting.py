"""Splitting JSON bodies before a request is decided: outside the pipeline, and long ones with turns for everybody else.

What is wrong with a body is kept in its place: whether the stream is there and takes the request is looked at first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from time import monotonic
from typing import Final

from gevent.lock import BoundedSemaphore

from durable_streams.eventloop.turns import yield_to_loop
from durable_streams.protocol.content import is_json
from durable_streams.protocol.errors import ProtocolError
from durable_streams.protocol.messages.splitting import PIECE_BYTES, stored_pieces, to_messages
from durable_streams.protocol.requests import Append, Create, Messages

TURN_S: Final = 0.002
"""How long a body is split before everybody else gets a turn."""


class Splitter:
    """Splits the bodies of one store; long ones one at a time, for together they would hold the loop."""

    def __init__(self, messages_max: int) -> None:
        """``messages_max``: JSON messages in one body; 0 means no limit."""
        self._messages_max = messages_max
        self._long_body = BoundedSemaphore(1)

    def split_append(self, request: Append) -> None:
        """Fill in the messages of ``request`` if it is JSON."""
        if request.body and request.content_type is not None and is_json(request.content_type):
            request.messages = self._split(request.body)

    def split_create(self, request: Create) -> Create:
        """``request`` with its messages if it is JSON; a fork may learn of that from its source."""
        if (
            request.messages is None
            and request.body
            and request.content_type is not None
            and is_json(request.content_type)
        ):
            return replace(request, messages=self._split(request.body))
        return request

    def _split(self, body: bytes) -> Messages:
        try:
            if len(body) <= PIECE_BYTES:
                return to_messages(body, self._messages_max)
            with self._long_body:
                return b"".join(_with_turns(stored_pieces(body, self._messages_max)))
        except ProtocolError as refusal:
            return refusal


def _with_turns(pieces: Iterator[bytes]) -> Iterator[bytes]:
    until = monotonic() + TURN_S
    for piece in pieces:
        yield piece
        if monotonic() >= until:
            yield_to_loop()
            until = monotonic() + TURN_S
