"""The contract between the store and whatever keeps the bytes.

A backend knows no HTTP and no rule of the protocol: it is handed finished states and bytes, and gives them back.

Atomicity
    ``commit`` takes all changes of its batch or none of them, also over a crash: bytes, producers, sequence,
    closure, sliding window and references of one change are one. A reader sees nothing of a batch before
    ``commit`` has made it as durable as the backend promises (``file-fast`` promises less, and says so).
Order
    Batches of one shard become durable in the order in which they were committed.
Durability
    When ``commit`` returns, the batch will survive what the guarantee of its mode names (``modes.py``).
Concurrency
    One caller commits to a shard at a time; different shards may commit at once. ``load``, ``read``,
    ``names`` and ``due`` may be called at any time from any greenlet, also while a commit waits for the disk,
    and must not wait for it. Unless ``commits_inline``, ``commit`` may switch greenlets.
Failure
    ``StorageFull`` and ``Unavailable`` mean that nothing of the batch was kept and the backend goes on.
    ``CommitConflict`` means that somebody else changed a stream of the batch: load, decide and commit again.
    Any other exception means that the outcome is unknown: the shard refuses all further work.
    ``StreamDamaged`` from ``load`` or ``read`` concerns that stream alone, ``Unavailable`` that call alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from durable_streams.protocol.state import StreamState


class CommitConflict(Exception):
    """Another process changed a stream of this batch first; nothing of the batch was kept."""


@dataclass(slots=True)
class Change:
    """What one batch does to one stream.

    ``before`` is the recorded state (None: there was no stream), ``after`` the new one (None: the stream goes, with
    its bytes). When both have the same uid, ``appended`` holds the bytes from ``before.tail`` to
    ``after.tail``; otherwise it holds all own bytes of ``after``, from its base to its tail, and whatever
    ``before`` had goes.
    """

    before: StreamState | None
    after: StreamState | None
    appended: list[bytes] = field(default_factory=list)

    @property
    def name(self) -> str:
        state = self.after or self.before
        assert state is not None
        return state.config.name

    @property
    def is_new(self) -> bool:
        """Whether ``after`` is an uid that was not there before."""
        after, before = self.after, self.before
        if after is None:
            return False
        return before is None or before.config.uid != after.config.uid


class Storage(ABC):
    """A place for streams; see the module's text for what its methods promise together."""

    shards: int = 1
    """How many batches may be committed at once; a stream belongs to one shard for ever."""
    commits_inline: bool = False
    """``commit`` never waits and never switches greenlets."""
    counts_as_memory: bool = False
    """Payload lies in memory, so ``limits.max_memory_bytes`` applies."""

    @property
    def failed(self) -> bool:
        """Whether it is unknown what the disk holds, so that nothing is written any more until it is opened anew."""
        return False

    @abstractmethod
    def open(self) -> None:
        """Recover and be ready. Called once, in the process that serves, after any fork and patching.

        Raises Unavailable when another process owns the storage, or an OSError or ValueError that says what is
        wrong with it. Opening twice in a row changes nothing.
        """

    @abstractmethod
    def close(self) -> None:
        """Make everything durable that can be and release the storage; closing a closed storage does nothing."""

    def shard_of(self, name: str) -> int:
        """The shard (0 to ``shards`` - 1) that owns the stream ``name``."""
        return 0

    @abstractmethod
    def load(self, name: str) -> StreamState | None:
        """The recorded state of a stream; the same object as long as nothing changed, where that is cheap."""

    @abstractmethod
    def read(self, state: StreamState, start: int, stop: int) -> bytes:
        """The stream's own bytes from position ``start`` to ``stop``; base <= start <= stop <= tail.

        Raises StreamNotFound when that uid has gone, StreamDamaged when its bytes cannot be trusted.
        """

    @abstractmethod
    def commit(self, shard: int, changes: Sequence[Change]) -> None:
        """Take all ``changes`` (each stream at most once, all of this shard), or raise and take none."""

    @abstractmethod
    def names(self, prefix: str, after: str, limit: int) -> list[str]:
        """Up to ``limit`` names that start with ``prefix`` and sort after ``after``, in order, soft-deleted too."""

    @abstractmethod
    def due(self, now: float, limit: int) -> list[str]:
        """Up to ``limit`` names whose recorded ``due_at`` is at or before ``now`` (seconds since 1970)."""
