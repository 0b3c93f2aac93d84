"""The engine that a test runs on: every mode that keeps its streams on disk, with the same calls for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from durable_streams.protocol.requests import Request
from durable_streams.storage.files.maintenance import FileMaintenance
from durable_streams.storage.modes import MODES, Mode
from durable_streams.storage.on_disk.maintenance import DirectoryMaintenance
from durable_streams.storage.zodb.maintenance import AcidMaintenance
from tests.acid import driving as acid
from tests.disk.recording import HastyDisk
from tests.files import driving as files


@dataclass(frozen=True)
class Engine:
    """How one mode is opened, changed and maintained; without syncs, and nothing runs behind the requests."""

    mode: Mode
    opened: Callable[..., AbstractContextManager[Any]]
    commit: Callable[..., Sequence[Any]]
    maintenance: DirectoryMaintenance

    def write(self, data_dir: Path, *requests: Request) -> Any:
        """Commit ``requests``, one batch each, and return everything that is served then."""
        with self.opened(data_dir) as storage:
            for request in requests:
                self.commit(storage, request)
            return files.contents(storage)

    def contents(self, data_dir: Path) -> Any:
        """Everything that a server would serve from ``data_dir``."""
        with self.opened(data_dir) as storage:
            return files.contents(storage)


def _files_opened(durable: bool) -> Callable[..., AbstractContextManager[Any]]:
    return lambda data_dir: files.opened(data_dir, durable)


ENGINES = (
    Engine(MODES["file-fast"], _files_opened(False), files.commit, FileMaintenance(HastyDisk())),
    Engine(MODES["file-durable"], _files_opened(True), files.commit, FileMaintenance(HastyDisk())),
    Engine(
        MODES["acid"], lambda data_dir: acid.opened(data_dir, 2), acid.commit, AcidMaintenance(HastyDisk())
    ),
)


@pytest.fixture(params=ENGINES, ids=lambda engine: str(engine.mode.name))
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each of them."""
    found: Engine = request.param
    return found
