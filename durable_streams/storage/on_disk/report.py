"""What reading a whole data directory has found: the same for every storage that is kept on disk."""

from __future__ import annotations

from dataclasses import dataclass, field

from durable_streams.protocol.state import ForkPoint


@dataclass(slots=True)
class Report:
    """What ``verify`` has read, and everything that was wrong with it."""

    streams: int = 0
    payload_bytes: int = 0
    """Own bytes of all streams."""
    commits: int = 0
    """How many there have been: batches of the journal, or transactions."""
    torn_bytes: int = 0
    """At the ends of the files; a crash leaves them, or a server that is writing, and nobody was answered for them."""
    problems: list[str] = field(default_factory=list)
    """One sentence each, with file and position, or with the name of the stream."""

    def check_fork(self, name: str, fork: ForkPoint, source: tuple[str, int] | None) -> None:
        """Note what is wrong with the source of stream ``name``, of which uid and tail are given."""
        uid, tail = source or ("", 0)
        if uid != fork.source_uid:
            self.problems.append(f"stream {name!r} has lost its source {fork.source!r}")
        elif tail < fork.position:
            self.problems.append(f"stream {name!r} begins beyond the tail of its source {fork.source!r}")
