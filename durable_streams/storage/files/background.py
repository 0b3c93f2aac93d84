"""What the file modes do behind the requests: sync the journal, make checkpoints, remove what nobody needs.

Decides when; checkpointing.py knows how.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

from gevent.lock import BoundedSemaphore

from durable_streams.eventloop.threads import Threads
from durable_streams.protocol.errors import StorageFull, Unavailable
from durable_streams.storage.files.checkpointing import Checkpointing, Cut
from durable_streams.storage.files.index import Index
from durable_streams.storage.files.journal import Journal, JournalFile
from durable_streams.storage.files.records import JOURNAL_HEADER_BYTES
from durable_streams.storage.files.tuning import FileTuning
from durable_streams.storage.on_disk.background import Background, BackgroundStep
from durable_streams.storage.on_disk.disk import says_full
from durable_streams.storage.on_disk.room import Room

log = logging.getLogger("durable_streams.storage")


class FileBackground:
    """Runs from the opening of a storage to ``stop``."""

    def __init__(
        self,
        root: str,
        index: Index,
        journal: Journal,
        checkpointing: Checkpointing,
        threads: Threads,
        tuning: FileTuning,
        room: Room,
    ) -> None:
        """``root``: the directory, for messages. The journal is synced here where ``commit`` does not do it."""
        self.turn = BoundedSemaphore(1)
        """Held while a batch is committed, and while a checkpoint begins."""
        self.checkpointing = checkpointing
        self.is_full = False
        """Whether the last checkpoint has found no room."""
        self._working = BoundedSemaphore(1)
        """Held by the one step that is running."""
        self._index = index
        self._journal = journal
        self._threads = threads
        self._tuning = tuning
        self._room = room
        self._checkpoint_at = monotonic() + tuning.checkpoint_age_s
        self.checkpoint_step = self._step(f"a checkpoint of {root}", self.checkpoint_when_due)
        tidying = self._step(f"removing unneeded files from {root}", self.tidy)
        syncing = self._step(f"syncing the journal of {root}", self.sync_journal)
        freeing = self._step(f"freeing room in {root}", self.free_room)
        self._loop = Background(
            [syncing, freeing, self.checkpoint_step], tuning.sync_interval_s, first=[tidying]
        )

    def _step(self, name: str, work: Callable[[], None]) -> BackgroundStep:
        retry_s, journal = self._tuning.checkpoint_retry_s, self._journal
        return BackgroundStep(name, work, retry_s, lambda: journal.failed is not None)

    @property
    def failures(self) -> int:
        """How often a step has failed."""
        return self._loop.failures

    def note_commit(self) -> None:
        """A batch has been committed."""
        if self._wants_checkpoint() and monotonic() >= self.checkpoint_step.not_before:
            self._loop.wake()

    def stop(self) -> None:
        """Wait for what is running, and make a last checkpoint, so that the next opening has nothing to replay."""
        self._loop.stop()
        with self.turn, self._working:
            pass
        if self._journal.failed is not None:
            return
        try:
            self.sync_journal()
            if self._index.dirty:
                self.checkpoint()
        except OSError as exc:
            log.error(
                "the last checkpoint could not be made; the next opening will replay the journal: %s", exc
            )

    def tidy(self) -> None:
        """After opening: remove the files that a crash, or a reader, has kept from being removed."""
        with self._working:
            self.checkpointing.remove_garbage()
            self.checkpointing.remove_orphans()

    def sync_journal(self) -> None:
        with self._working:
            file, seq = self._journal.written()
            if self._journal.synced < seq:
                self._threads.run(self._journal.sync, file, seq)
            # On a full disk there is no mark, and nothing else is missing.
            with self.turn, suppress(StorageFull, Unavailable):
                self._journal.mark()

    def free_room(self) -> None:
        """While ordinary writes are refused: give back what streams hold that have gone."""
        if self._room.look() or not self._index.dirty.gone:
            return
        gone = list(self._index.dirty.gone)
        self.sync_journal()
        with self._working:
            self.checkpointing.remove_streams(gone)
        if self._room.look():
            return
        try:
            self.checkpoint(everything=True)
        except OSError as exc:
            if not says_full(exc):
                raise
            # It leaves older checkpoints as they are, and needs less room.
            self.checkpoint()
        self._room.look()

    def checkpoint_when_due(self) -> None:
        if self._wants_checkpoint() or (self._index.dirty and monotonic() >= self._checkpoint_at):
            self.checkpoint()

    def _wants_checkpoint(self) -> bool:
        return (
            self._journal.length >= self._tuning.checkpoint_journal_bytes
            or self._index.unflushed_bytes >= self._tuning.checkpoint_unflushed_bytes
        )

    def checkpoint(self, everything: bool = False) -> None:
        """Move everything from the journal to where it stays, and drop the journal; raises OSError when that fails.

        ``everything``: put together all older checkpoints too.
        """
        self._room.free_up(lambda: self._checkpoint(everything))

    def _checkpoint(self, everything: bool) -> None:
        with self._working:
            old_file, cut = self._begin(everything)
            succeeded = False
            try:
                self.checkpointing.write(cut)
                self._journal.has_covered(cut.seq)
                succeeded, self.is_full = True, False
            except OSError as exc:
                self.is_full = says_full(exc)
                raise
            finally:
                self.checkpointing.end(cut, succeeded)
                if old_file:
                    self._finish_file(old_file, cut.seq)
            self._checkpoint_at = monotonic() + self._tuning.checkpoint_age_s
            self.checkpointing.remove_garbage()

    def _begin(self, everything: bool) -> tuple[JournalFile | None, Cut]:
        """Go on in a new journal file, unless the present one is empty: failing checkpoints must not make ever more."""
        with self.turn:
            if self._journal.length == JOURNAL_HEADER_BYTES:
                return None, self.checkpointing.begin(everything)
        new_file = self.checkpointing.new_journal_file()
        with self.turn:
            return self._journal.switch(new_file), self.checkpointing.begin(everything)

    def _finish_file(self, file: JournalFile, seq: int) -> None:
        """A file that no checkpoint has covered has to be durable before later ones are called so."""
        try:
            self._threads.run(self._journal.sync, file, seq)
        finally:
            self._journal.close(file)
