"""Documents: small durable values by key, for the server's own use. Each is an internal stream below ``__ds/``.

Clients never see these names (``protocol/names.py``). A save replaces the whole body in one commit and succeeds only
on the revision that its caller has loaded, so of two processes that save the same revision one is refused. Saves that
run at once share a commit, as appends do. A save writes the whole body again: what changes often, such as the cursors
of a subscription, belongs into many small documents and not into one large one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

from durable_streams.protocol.errors import (
    DocumentChanged,
    ProtocolError,
    StreamNotFound,
    TooLarge,
    Unavailable,
)
from durable_streams.protocol.names import RESERVED
from durable_streams.protocol.requests import Replace
from durable_streams.storage.contract import Storage
from durable_streams.streams.lives import new_uid
from durable_streams.streams.pipeline import Pipeline

DOCUMENT_BYTES_MAX: Final = 1 << 20
"""A larger body is a stream's matter: a save would write all of it again."""
LOADS_MAX: Final = 10
"""How often a load is repeated when the document is saved between its two steps."""
_FOLDER: Final = RESERVED + "/"


class Document(NamedTuple):
    """A body, and the revision that a save has to name."""

    body: bytes
    revision: str


class Save(NamedTuple):
    """What ``Documents.save_all`` saves; the fields are the arguments of ``Documents.save``."""

    key: str
    body: bytes
    revision: str | None


class Records(Protocol):
    """Somewhere to keep documents."""

    def load(self, key: str) -> Document | None: ...

    def save(self, key: str, body: bytes, revision: str | None) -> str: ...


class Documents:
    """The documents of one storage; they last as long as its streams do."""

    def __init__(self, storage: Storage, pipeline: Pipeline) -> None:
        self._storage = storage
        self._pipeline = pipeline

    def load(self, key: str) -> Document | None:
        """The document as it is recorded now, or None; raises StreamDamaged or Unavailable."""
        name = _name(key)
        for _ in range(LOADS_MAX):
            state = self._pipeline.find(name, self._pipeline.clock())
            if state is None:
                return None
            try:
                return Document(self._storage.read(state, 0, state.tail), state.config.uid)
            except StreamNotFound:
                # Saved anew since it was found.
                continue
        raise Unavailable(f"document {key!r} changes too often to be loaded")

    def save(self, key: str, body: bytes, revision: str | None) -> str:
        """Replace the body of revision ``revision``, or make the document if that is None; returns the new revision.

        Raises DocumentChanged, and changes nothing, when the document has another revision; TooLarge for a body of
        more than DOCUMENT_BYTES_MAX; or what a storage that cannot write raises.
        """
        request = _replacement(key, body, revision)
        self._pipeline.submit(request)
        return request.uid

    def save_all(self, saves: Iterable[Save]) -> list[str | ProtocolError]:
        """The new revision, or the refusal, of each: as many calls of ``save`` at once, which share commits."""
        requests = [_replacement(*save) for save in saves]
        outcomes = self._pipeline.submit_all(requests)
        return [
            outcome if isinstance(outcome, ProtocolError) else request.uid
            for request, outcome in zip(requests, outcomes, strict=True)
        ]

    def delete(self, key: str, revision: str) -> None:
        """Remove the document; raises DocumentChanged, and changes nothing, when it has another revision."""
        self._pipeline.submit(Replace(_name(key), revision, new_uid(), None))

    def keys(self, prefix: str = "", after: str = "", limit: int = 1000) -> list[str]:
        """Up to ``limit`` keys that start with ``prefix`` and sort after ``after``, in order."""
        names = self._storage.names(_FOLDER + prefix, _FOLDER + after if after else "", limit)
        return [name[len(_FOLDER) :] for name in names]


class TransientDocuments:
    """Documents in this process's memory, for what ends with the process."""

    def __init__(self) -> None:
        self._documents: dict[str, Document] = {}

    def load(self, key: str) -> Document | None:
        return self._documents.get(key)

    def save(self, key: str, body: bytes, revision: str | None) -> str:
        found = self._documents.get(key)
        if (None if found is None else found.revision) != revision:
            raise DocumentChanged(key)
        document = self._documents[key] = Document(body, new_uid())
        return document.revision


def _replacement(key: str, body: bytes, revision: str | None) -> Replace:
    if len(body) > DOCUMENT_BYTES_MAX:
        raise TooLarge(f"Document {key!r} is larger than {DOCUMENT_BYTES_MAX} bytes")
    return Replace(_name(key), revision, new_uid(), body)


def _name(key: str) -> str:
    """The internal stream of ``key``; raises ValueError for one that cannot be a name."""
    if not key or "\0" in key:
        raise ValueError(f"{key!r} cannot be the key of a document")
    return _FOLDER + key
