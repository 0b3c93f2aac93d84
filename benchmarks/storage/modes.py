"""The storages that are measured, and a store over one of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from durable_streams.app import build_storage
from durable_streams.config import Config
from durable_streams.serving.gc_tuning import tune_gc
from durable_streams.streams.batch import Limits
from durable_streams.streams.store import StreamStore

MODES: Final[dict[str, dict[str, Any]]] = {
    "memory": {"mode": "memory"},
    "file-fast": {"mode": "file-fast"},
    "file-durable": {"mode": "file-durable"},
    "acid": {"mode": "acid"},
    "acid in-memory": {"mode": "acid", "acid_backend": "in-memory"},
}
ON_DISK: Final = ("file-fast", "file-durable", "acid")


@contextmanager
def open_store(mode: str, data_dir: Path) -> Iterator[StreamStore]:
    """The store of a mode, as the server would open it; closed at the end of the block."""
    settings = {"storage": {**MODES[mode], "data_dir": str(data_dir)}}
    store = StreamStore(build_storage(Config.model_validate(settings)), Limits())
    store.open()
    tune_gc()
    try:
        yield store
    finally:
        store.close()
