"""Creating forks (section 4.2): a reference at the source, then the fork.

The rules are in ``protocol/forking.py``; they are given the position that is read here.
"""

from __future__ import annotations

import os
from typing import cast

from durable_streams.protocol.errors import OutcomeUnknown, ProtocolError
from durable_streams.protocol.forking import (
    anchor_of,
    check_content_type,
    check_fork_position,
    fork_request,
    require_source,
)
from durable_streams.protocol.outcomes import Created
from durable_streams.protocol.requests import AddFork, Create, ForkSource, RemoveFork
from durable_streams.protocol.state import ForkPoint
from durable_streams.streams.pipeline import Pipeline
from durable_streams.streams.reading import Reader
from durable_streams.streams.references import References


class Forks:
    """Creates the forks of one storage."""

    def __init__(self, pipeline: Pipeline, reader: Reader, references: References) -> None:
        self._pipeline = pipeline
        self._reader = reader
        self._references = references

    def create(self, request: Create, fork: ForkSource, now: float) -> Created:
        """A fork, or the one that is there by now; raises the ProtocolError that refuses it."""
        source = require_source(self._pipeline.find(fork.source, now), fork.source, now)
        check_content_type(source, request.content_type)
        position = self._reader.skip(source, anchor_of(source, fork), fork.sub_offset)
        check_fork_position(source, position)
        resolved = fork_request(request, source, fork, position, new_uid())
        assert resolved.fork_point is not None
        return self._create(resolved, resolved.fork_point)

    def _create(self, request: Create, point: ForkPoint) -> Created:
        fork = request.uid
        forking = self._references.forking
        release = RemoveFork(point.source, point.source_uid, fork)
        forking.add(fork)
        is_known = True
        try:
            self._pipeline.submit(AddFork(point.source, point.source_uid, fork, request.name))
            try:
                created = cast(Created, self._pipeline.submit(request))
            except OutcomeUnknown:
                # The next opening will know whether there is a fork; until then its source must not go.
                is_known = False
                raise
            except ProtocolError:
                self._references.release(release)
                raise
            if created.existed:
                self._references.release(release)
            return created
        finally:
            if is_known:
                forking.discard(fork)


def new_uid() -> str:
    return os.urandom(8).hex()
