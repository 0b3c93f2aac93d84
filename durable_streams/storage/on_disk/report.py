"""What maintenance of a data directory has found or done: the same for every storage that is kept on disk."""

from __future__ import annotations

from dataclasses import dataclass, field

from durable_streams.protocol.state import ForkPoint, StreamState


@dataclass(slots=True)
class Report:
    """What was read, everything that was wrong with it, and what compacting has freed."""

    streams: int = 0
    payload_bytes: int = 0
    """Own bytes of all streams."""
    commits: int = 0
    """How many there have been: batches of the journal, or transactions."""
    torn_bytes: int = 0
    """At the ends of the files; a crash leaves them, or a server that is writing, and nobody was answered for them."""
    bytes_before: int = 0
    """Length of all files before compacting ..."""
    bytes_after: int = 0
    """... and after it."""
    problems: list[str] = field(default_factory=list)
    """One sentence each, with file and position, or with the name of the stream."""
    _tails: dict[str, tuple[str, int]] = field(default_factory=dict)
    _forks: list[tuple[str, ForkPoint]] = field(default_factory=list)

    def add(self, state: StreamState) -> None:
        """Count a stream that can be read."""
        self.streams += 1
        self.payload_bytes += state.own_bytes
        self._tails[state.name] = (state.config.uid, state.tail)
        if state.config.fork is not None:
            self._forks.append((state.name, state.config.fork))

    def check_forks(self) -> None:
        """When all streams have been added: note every fork that has lost its source."""
        for name, fork in self._forks:
            uid, tail = self._tails.get(fork.source, ("", 0))
            if uid != fork.source_uid:
                self.problems.append(f"stream {name!r} has lost its source {fork.source!r}")
            elif tail < fork.position:
                self.problems.append(f"stream {name!r} begins beyond the tail of its source {fork.source!r}")
