"""When the file modes do their background work. The defaults were measured; tests use small ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FileTuning:
    """Sizes, ages and counts that decide when background work is due."""

    checkpoint_journal_bytes: int = 32 << 20
    """A checkpoint is made when the journal has this length: it bounds what opening has to replay."""
    checkpoint_unflushed_bytes: int = 32 << 20
    """... or when this much payload is in memory only."""
    checkpoint_age_s: float = 60.0
    """... or when something has been waiting for it for this long."""
    checkpoint_retry_s: float = 5.0
    """How long to wait after one that failed."""
    unflushed_bytes_max: int = 128 << 20
    """Payload in memory at which writes are refused until a checkpoint has made room."""
    stream_unflushed_bytes: int = 64 << 10
    """Payload of one stream in memory at which it is moved to the stream's stream file."""
    packed_bytes_max: int = 4096
    """A stream with no more local bytes than this is kept in the checkpoint, and has no file."""
    sync_interval_s: float = 1.0
    """``file-fast``: how often the journal is synced."""
    checkpoints_max: int = 32
    """How many checkpoints may be in force before they are put together to one."""
    outgrown_bytes: int = 16 << 20
    """... and how much larger than their base the others may be together."""
    files_kept_open: int = 128
    reading_threads: int = 4
