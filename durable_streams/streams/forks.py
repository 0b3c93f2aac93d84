"""Creating forks (section 4.2): in one step with the reference at the source, or after it.

The rules are in ``protocol/forking.py``; they are given the position that is read here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from durable_streams.protocol.errors import OutcomeUnknown, ProtocolError
from durable_streams.protocol.forking import (
    anchor_of,
    check_content_type,
    check_fork_position,
    fork_point,
    fork_request,
    require_source,
)
from durable_streams.protocol.outcomes import Created
from durable_streams.protocol.requests import AddFork, Create, ForkSource, Identity, RemoveFork
from durable_streams.protocol.state import StreamState
from durable_streams.storage.contract import Storage
from durable_streams.streams.lives import Lives, new_uid
from durable_streams.streams.pipeline import Pipeline
from durable_streams.streams.reading import Reader
from durable_streams.streams.references import References
from durable_streams.streams.splitting import Splitter


class Forks:
    """Creates the forks of one storage."""

    def __init__(
        self,
        storage: Storage,
        pipeline: Pipeline,
        reader: Reader,
        references: References,
        lives: Lives,
        splitter: Splitter,
    ) -> None:
        self._storage = storage
        self._pipeline = pipeline
        self._reader = reader
        self._references = references
        self._lives = lives
        self._splitter = splitter

    def create(self, request: Create, fork: ForkSource, now: float) -> Created:
        """A fork, or the one that is there by now; raises the ProtocolError that refuses it."""
        source = require_source(self._pipeline.find(fork.source, now), fork.source, now)
        check_content_type(source, request.content_type)
        named = None if fork.offset is None else self._reader.position_of(source, fork.offset)
        anchor = anchor_of(source, named)
        position = self._reader.skip(source, anchor, fork.sub_offset)
        check_fork_position(source, position)
        point = fork_point(request, source, anchor, position, self._reader.life_at(source, position))
        new = replace(request, identity=Identity(new_uid(), self._lives.begin(now, source.config.life)))
        resolved = self._splitter.split_create(fork_request(new, source, point))
        if self._storage.joins(request.name, source.name):
            return cast(Created, self._pipeline.submit(resolved))
        return self._create_in_two_steps(resolved, source)

    def _create_in_two_steps(self, request: Create, source: StreamState) -> Created:
        self._pipeline.submit(AddFork(source.name, source.config.uid, request.identity.uid, request.name))
        release = RemoveFork(source.name, source.config.uid, request.identity.uid)
        try:
            created = cast(Created, self._pipeline.submit(request))
        except OutcomeUnknown:
            # The next opening will know whether there is a fork; until then its source must not go.
            raise
        except ProtocolError:
            self._references.release([release])
            raise
        if created.existed:
            self._references.release([release])
        return created
