"""No field of a state is lost on its way to the disk and back: in journals and logs, in checkpoints and records."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from durable_streams.protocol.state import StreamState, evolve
from durable_streams.storage.contract import Change, Storage
from tests.engines.driving import copy_of, record
from tests.engines.engine import Engine
from tests.every_field import OF_THE_STORAGE, empty_state, full_state, plain

OWN = b"own bytes"
MORE = b", more"
MOVING = [each.name for each in fields(StreamState) if each.name not in ("config", OF_THE_STORAGE)]
"""The configuration is that of a uid."""


def commit(storage: Storage, change: Change) -> None:
    record(storage, [change], storage.shard_of(change.name))


def check_everywhere(engine: Engine, data_dir: Path, storage: Storage, expected: StreamState) -> None:
    """In memory, after a crash, and after a stop, which leaves a checkpoint."""
    name = expected.name
    crashed = copy_of(data_dir, data_dir.with_name("crashed"))
    assert plain(storage.known(name)) == plain(expected)
    storage.close()
    for directory in (crashed, data_dir):
        with engine.opened(directory) as opened:
            engine.checkpoint(opened)
            assert plain(opened.known(name)) == plain(expected)
        with engine.opened(directory) as opened:
            assert plain(opened.known(name)) == plain(expected)


def test_a_state_has_every_field_when_it_begins(engine: Engine, tmp_path: Path) -> None:
    state = full_state(OWN)
    with engine.opened(tmp_path / "data") as storage:
        commit(storage, Change(None, state, [OWN]))
        check_everywhere(engine, tmp_path / "data", storage, state)


@pytest.mark.parametrize("comes", [True, False], ids=["comes", "goes"])
@pytest.mark.parametrize("name", MOVING)
def test_a_field_that_changes_is_recorded(engine: Engine, tmp_path: Path, name: str, comes: bool) -> None:
    before, other = (empty_state(OWN), full_state(OWN)) if comes else (full_state(OWN), empty_state(OWN))
    value: Any = getattr(other, name)
    if name == "tail":
        value += len(MORE)
    after = evolve(before, **{name: value})
    assert plain(after)[name] != plain(before)[name]
    entries = tuple({**before.producers, **before.forks, **after.producers, **after.forks})
    with engine.opened(tmp_path / "data") as storage:
        commit(storage, Change(None, before, [OWN]))
        commit(storage, Change(before, after, [MORE] if name == "tail" else [], entries))
        check_everywhere(engine, tmp_path / "data", storage, after)
