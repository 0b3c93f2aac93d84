"""The server of wsgi.py, whose storage does all the time what it otherwise does now and then.

With the limits of a real server no checkpoint falls into the second that a round lasts.
"""

from __future__ import annotations

from pathlib import Path

from durable_streams.app import build_storage, create_app
from durable_streams.config import Config
from durable_streams.serving import served_config
from durable_streams.storage.contract import Storage


def busy_storage(config: Config) -> Storage:
    """The storage that the configuration names, with small limits."""
    settings = config.storage
    data_dir = Path(settings.data_dir)
    if settings.mode == "acid":
        return busy_acid_storage(data_dir, settings.acid_shard_count)
    if settings.mode in ("file-fast", "file-durable"):
        return busy_file_storage(data_dir, durable=settings.mode == "file-durable")
    return build_storage(config)


def busy_file_storage(data_dir: Path, *, durable: bool) -> Storage:
    from durable_streams.storage.files import FileStorage, FileTuning

    tuning = FileTuning(
        checkpoint_journal_bytes=60_000,
        checkpoint_unflushed_bytes=40_000,
        checkpoint_age_s=0.2,
        stream_unflushed_bytes=3000,
        packed_bytes_max=500,
        sync_interval_s=0.02,
        checkpoints_max=5,
        outgrown_bytes=100_000,
        files_kept_open=3,
    )
    return FileStorage(data_dir, durable=durable, tuning=tuning)


def busy_acid_storage(data_dir: Path, shard_count: int) -> Storage:
    from durable_streams.storage.zodb import AcidStorage, AcidTuning

    tuning = AcidTuning(
        interval_s=0.02, index_bytes=50_000, index_age_s=0.1, pack_bytes=50_000, pack_garbage=0.2
    )
    return AcidStorage(data_dir, shard_count, tuning=tuning)


app = create_app(served_config(), busy_storage(served_config()))
