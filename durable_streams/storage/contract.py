"""The contract between the store and a storage.

A storage knows no HTTP and no rule of the protocol: it takes finished states and bytes, and gives them back.

States
    ``known`` tells what this process believes of one stream, at once. ``find`` tells what is recorded now, of many
    streams with one question. A storage of one process answers both from the same place, and is never wrong. A
    ``shared`` storage is changed by other processes too: there ``known`` may be old, or not have heard of a stream
    (None), and ``find`` may wait for the network.
Atomicity
    ``commit`` takes or refuses each unit as a whole, also over a crash: bytes, producers, sequence, closure, sliding
    window and forks of all its changes are one. The batch is not atomic, the unit is. A reader sees nothing of a unit
    before it is as durable as the storage promises (``file-fast`` promises less, and says so).
Truth
    A change is recorded only if its ``before`` is still the recorded state. The answers that change nothing
    (refusals, duplicates) rest on states too; these are handed over as ``rests_on`` and confirmed in the same step.
    ``Lost`` names the streams of which something else is recorded; of them ``known`` tells the new state from then on.
    A storage of one process loses nothing but the units of a stream that it finds damaged. There a ``before`` that is
    not recorded is a mistake of the caller: ``StaleChange``.
Order
    Batches of one shard become durable in the order in which they were committed.
Durability
    When ``commit`` returns, the units that it has taken survive what the guarantee of its mode names (``modes.py``).
Concurrency
    One caller commits to a shard at a time; different shards may commit at once. ``known``, ``find``, ``read``,
    ``names`` and ``due`` may be called at any time from any greenlet, also while a commit waits for the disk, and must
    not wait for it. Unless ``commits_inline``, ``commit`` may switch greenlets.
Failure
    ``StorageFull`` and ``Unavailable`` mean that nothing of the batch was kept and the storage goes on.
    ``OutcomeUnknown`` of a shared storage means that nobody can tell, and that it goes on: no later commit can rest on
    what is not recorded. Any other exception means that the outcome is unknown: the shard refuses all further work.
    ``StreamDamaged`` from ``known``, ``find`` or ``read`` concerns that stream alone, ``Unavailable`` that call alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Protocol

from durable_streams.protocol.errors import StreamDamaged
from durable_streams.protocol.names import is_reserved
from durable_streams.protocol.state import StreamState


class StaleChange(Exception):
    """A change was decided on a state that is not the recorded one, in a storage that only this process changes."""


@dataclass(slots=True)
class Change:
    """What one batch does to one stream.

    ``before`` is the recorded state (None: there was no stream), ``after`` the new one (None: the stream goes, with
    its bytes). When both have the same uid, ``appended`` holds the bytes from ``before.tail`` to ``after.tail``.
    Otherwise ``after`` is another stream in the place of ``before``, whose bytes go: ``appended`` then holds all own
    bytes of ``after``, from ``forked_at`` to its tail.
    """

    before: StreamState | None
    after: StreamState | None
    appended: list[bytes] = field(default_factory=list)
    entries: tuple[str, ...] = ()
    """When both have the same uid: the ids of all producers, and uids of all forks, whose entries are not the same.

    So a storage finds the few that have changed without a look at all of them.
    """

    @property
    def name(self) -> str:
        state = self.after or self.before
        assert state is not None
        return state.config.name

    @property
    def is_new(self) -> bool:
        """Whether ``after`` is a uid that was not there before."""
        after, before = self.after, self.before
        if after is None:
            return False
        if before is None:
            return True
        return before.config is not after.config and before.config.uid != after.config.uid


Unit = tuple[Change, ...]
"""Changes that stand or fall together, each of another stream; usually one."""
Found = StreamState | StreamDamaged | None
"""What ``find`` tells of one stream: its state, that it has none, or why it cannot be told."""
Lost = Collection[str]
"""Names of streams of which a batch knew something that is not recorded. No unit that has one of them was kept."""

Commit = Callable[[int, Sequence[Unit], Mapping[str, StreamState | None]], Lost]
"""``Storage.commit`` of one storage."""

NAMES_AT_ONCE: Final = 10_000
NOTHING_LOST: Final[Lost] = frozenset()
RESTS_ON_NOTHING: Final[Mapping[str, StreamState | None]] = MappingProxyType({})


class Storage(ABC):
    """A place for streams; see the module's text for what its methods promise together."""

    shards: int = 1
    """How many batches may be committed at once."""
    commits_inline: bool = False
    """``commit`` never waits and never switches greenlets. Not for a shared storage."""
    counts_as_memory: bool = False
    """Payload lies in memory, so ``limits.max_memory_bytes`` applies. Not for a shared storage."""
    shared: bool = False
    """Other processes may change the same streams at the same time."""

    @property
    def failed(self) -> bool:
        """Whether it is unknown what the disk holds, so that nothing is written any more until it is opened anew."""
        return False

    @property
    def is_full(self) -> bool:
        """Whether writes that add payload or a stream are refused for want of room; deletes and closes go on."""
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
        """The shard (0 to ``shards`` - 1) that commits changes of the stream ``name``; the same for ever."""
        return 0

    def joins(self, fork: str, source: str) -> bool:
        """Whether changes of these two streams can be one unit, so that a fork is created and removed in one step."""
        return self.shard_of(fork) == self.shard_of(source)

    @abstractmethod
    def known(self, name: str) -> StreamState | None:
        """The state of a stream as far as this process knows, without waiting for the network.

        The same object as long as nothing changed, where that is cheap. Raises StreamDamaged.
        """

    def find(self, names: Iterable[str]) -> Mapping[str, Found]:
        """The states of streams as recorded now, one for each name; ``known`` tells the same afterwards.

        A shared storage asks one question for all of them. Raises Unavailable.
        """
        return {name: _found(self, name) for name in names}

    @abstractmethod
    def read(self, state: StreamState, start: int, stop: int) -> bytes:
        """The stream's own bytes from position ``start`` to ``stop``; forked_at <= start <= stop <= tail.

        Raises StreamNotFound when that uid has gone, StreamDamaged when its bytes cannot be trusted.
        """

    @abstractmethod
    def commit(self, shard: int, units: Sequence[Unit], rests_on: Mapping[str, StreamState | None]) -> Lost:
        """Record the units whose streams are as they were decided on; returns which streams are not.

        Each stream at most once in all units, and not in ``rests_on`` as well; all of this shard, or joined to one of
        it. ``rests_on`` (name -> state, None for no stream) is only given to a shared storage. Raises as the module's
        text says.
        """

    @abstractmethod
    def names(self, prefix: str, after: str, limit: int) -> list[str]:
        """Up to ``limit`` names that start with ``prefix`` and sort after ``after``, in order, soft-deleted too."""

    def count(self) -> int:
        """How many streams of clients there are, soft-deleted ones included; internal ones are not counted."""
        count, after = 0, ""
        while names := self.names("", after, NAMES_AT_ONCE):
            count += sum(not is_reserved(name) for name in names)
            after = names[-1]
        return count

    @abstractmethod
    def due(self, now: float, limit: int) -> list[str]:
        """Up to ``limit`` names whose recorded ``due_at`` is at or before ``now`` (seconds since 1970).

        A shared storage goes by ``expiry.swept_at`` in place of ``due_at``.
        """


class Recorded(Protocol):
    """What tells one state of one stream from all others."""

    @property
    def uid(self) -> str: ...

    @property
    def revision(self) -> int: ...


def check_recorded(recorded: Recorded | None, change: Change) -> None:
    """Raise StaleChange unless ``recorded`` is the state that ``change`` was decided on."""
    before = change.before
    if before is recorded:
        return
    if (
        before is None
        or recorded is None
        or before.revision != recorded.revision
        or before.uid != recorded.uid
    ):
        raise StaleChange(f"stream {change.name!r} is at {_version(recorded)}, not at {_version(before)}")


def _version(recorded: Recorded | None) -> str:
    return "no state" if recorded is None else f"revision {recorded.revision} of {recorded.uid}"


def _found(storage: Storage, name: str) -> Found:
    try:
        return storage.known(name)
    except StreamDamaged as damaged:
        return damaged
