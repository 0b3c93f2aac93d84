"""What a storage may offer beyond the contract: each ability is a small protocol, asked for with ``isinstance``.

``Shared``: several processes may have the storage open at once. Then a change by one process must wake the readers
that wait in another, so a shared storage gives each process a ``Relay`` that carries wakes between them.

``Maintained``: an operator can verify, back up, restore and compact what the storage keeps. The row of a mode in
``modes.py`` says which of the two it has.

``Measured``: the storage tells figures of itself for the metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol, runtime_checkable

from durable_streams.storage.on_disk.report import Report


class Wake(NamedTuple):
    """A durable change of a stream, as a value that can travel between processes. It carries no data."""

    name: str
    uid: str
    """The life of the stream that changed; empty where only the name is known."""
    tail: int
    """The tail after the change, as a position in bytes."""
    is_over: bool
    """The stream is closed, deleted or gone: nothing more can be appended to this uid."""


class Relay(Protocol):
    """Carries wakes between the processes that share a storage. It may lose wakes, and it says when it may have."""

    def publish(self, wakes: Sequence[Wake]) -> None:
        """Tell the other processes soon. Called in the event loop after a commit; does not wait, does not raise.

        The caller has told its own process already. Its own wakes may come back to it.
        """

    def listen(self, deliver: Callable[[Sequence[Wake]], None], lost: Callable[[], None]) -> None:
        """From now on call ``deliver`` with what others publish, and ``lost`` whenever some of it may be missing.

        Called once, after the storage is open. Both are called in the event loop; they neither wait nor raise.
        Closing the storage ends the listening.
        """


@runtime_checkable
class Shared(Protocol):
    """A storage that several processes may have open at once."""

    def relay(self) -> Relay:
        """The relay of this process; called once after ``Storage.open``. ``Storage.close`` ends it."""


class Maintained(Protocol):
    """What an operator runs on a data directory (docs/operations.md).

    Every method raises a DirectoryError (``on_disk/directory.py``) or an OSError when it cannot be done.
    """

    def verify(self, data_dir: Path) -> Report:
        """Read and check everything, also while a server writes."""

    def backup(self, data_dir: Path, target: Path) -> Report:
        """Copy the data of one moment into ``target``, missing or empty, and verify the copy; a server may write."""

    def restore(self, source: Path, data_dir: Path) -> Report:
        """Make ``data_dir``, missing or empty, what the backup ``source`` is."""

    def compact(self, data_dir: Path) -> Report:
        """Free the space of what is no longer needed; no server may own the directory."""


class Figure(NamedTuple):
    """A number that a storage tells of itself."""

    text: str
    only_grows: bool = False


FIGURES: Final[Mapping[str, Figure]] = {
    "streams": Figure("Streams that the storage holds, soft-deleted ones too; an estimate in postgres mode."),
    "journal_bytes": Figure("Length of the journal since the last checkpoint."),
    "unflushed_bytes": Figure("Payload that is in the journal and in memory, and not in its own file yet."),
    "database_bytes": Figure("Size of the database on disk."),
    "garbage_bytes": Figure("Bytes of the database that packing would free."),
    "compactions": Figure(
        "Checkpoints of the file modes and packs of the acid mode that have succeeded.", True
    ),
    "background_failures": Figure(
        "Background steps of the storage that have failed and are tried again.", True
    ),
}
"""Every figure that a storage can have."""


@runtime_checkable
class Measured(Protocol):
    """A storage that tells figures of itself."""

    def figures(self) -> Mapping[str, float]:
        """The figures that it has, by their names in ``FIGURES``. Called while it is open; cheap, and never raises."""

    def measure_syncs(self, note: Callable[[float], None]) -> None:
        """From now on tell ``note`` the seconds of each sync of a file, in whichever thread it is made."""
