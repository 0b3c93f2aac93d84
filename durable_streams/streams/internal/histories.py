"""Histories: small records added one by one to a document of the server, each in one commit.

What a history holds is the sequence of its records; its owner replaces it by a shorter one that means the same when it
has grown long. Like a document it is an internal stream below ``__ds/``, and each change succeeds only on the version
that its caller knows, so of two processes that go on from one version only one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from durable_streams.protocol.errors import StreamNotFound, Unavailable
from durable_streams.protocol.names import RESERVED
from durable_streams.protocol.requests import Extend, Replace
from durable_streams.protocol.state import StreamState
from durable_streams.storage.contract import Storage
from durable_streams.streams.lives import new_uid
from durable_streams.streams.pipeline import Pipeline

LOADS_MAX: Final = 10
_FOLDER: Final = RESERVED + "/"


class Version(NamedTuple):
    """How far a history has come: which one it is, and its size in bytes."""

    uid: str
    size: int


class History(NamedTuple):
    body: bytes
    version: Version
    is_whole: bool
    """``body`` is all of it, and not only what was added."""


class Histories:
    """The histories of one storage."""

    def __init__(self, storage: Storage, pipeline: Pipeline) -> None:
        self._storage = storage
        self._pipeline = pipeline

    def version(self, key: str) -> Version | None:
        """The newest version as recorded now; None: there is no such history. Raises StreamDamaged or Unavailable."""
        state = self._find(key)
        return None if state is None else Version(state.config.uid, state.tail)

    def versions(self, keys: Sequence[str]) -> dict[str, Version | None]:
        """The newest version of each, with one question; None also for one that is damaged."""
        found = self._pipeline.find_all([_FOLDER + key for key in keys], self._pipeline.clock())
        return {
            name.removeprefix(_FOLDER): Version(state.config.uid, state.tail)
            if isinstance(state, StreamState)
            else None
            for name, state in found.items()
        }

    def load(self, key: str, known: Version | None = None) -> History | None:
        """The history, or what was added since ``known``; None: there is none. Raises StreamDamaged or Unavailable."""
        for _ in range(LOADS_MAX):
            state = self._find(key)
            if state is None:
                return None
            version = Version(state.config.uid, state.tail)
            start = known.size if known is not None and known.uid == version.uid else 0
            try:
                return History(self._storage.read(state, start, state.tail), version, start == 0)
            except StreamNotFound:
                # Replaced since it was found.
                continue
        raise Unavailable(f"history {key!r} changes too often to be loaded")

    def extend(self, key: str, record: bytes, known: Version) -> Version:
        """Add a record after ``known``; raises DocumentChanged, and changes nothing, if that is not the newest one."""
        self._pipeline.submit(Extend(_FOLDER + key, known.uid, known.size, record))
        return Version(known.uid, known.size + len(record))

    def replace(self, key: str, body: bytes, known: Version | None) -> Version:
        """Begin anew with ``body`` in the place of ``known`` (None: of nothing).

        Raises DocumentChanged, and changes nothing, if that is not the newest version.
        """
        uid, size = known or (None, None)
        request = Replace(_FOLDER + key, uid, new_uid(), body, size)
        self._pipeline.submit(request)
        return Version(request.uid, len(body))

    def remove(self, key: str, known: Version) -> None:
        """Remove the history; raises DocumentChanged, and changes nothing, if ``known`` is not the newest version."""
        self._pipeline.submit(Replace(_FOLDER + key, known.uid, new_uid(), None, known.size))

    def keys(self, prefix: str, after: str = "", limit: int = 1000) -> list[str]:
        """Up to ``limit`` keys that start with ``prefix`` and sort after ``after``, in order."""
        names = self._storage.names(_FOLDER + prefix, _FOLDER + after if after else "", limit)
        return [name[len(_FOLDER) :] for name in names]

    def _find(self, key: str) -> StreamState | None:
        return self._pipeline.find(_FOLDER + key, self._pipeline.clock())
