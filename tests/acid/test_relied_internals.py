"""The private parts of ZODB that ShardFileStorage, the database and the model override or use.

When one of these fails after an upgrade, read what has changed there before anything else is believed.
"""

from __future__ import annotations

import inspect
import re
from importlib.metadata import version
from pathlib import Path

import pytest
from BTrees.LOBTree import LOBTree
from BTrees.OOBTree import OOBTree
from ZODB import mvccadapter
from ZODB.BaseStorage import BaseStorage
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage.FileStorage import FileStorage
from ZODB.fsIndex import fsIndex
from ZODB.MappingStorage import MappingStorage

from durable_streams.storage.zodb.contents import Contents, index_path, saved_contents
from durable_streams.storage.zodb.file_storage import ShardFileStorage
from durable_streams.storage.zodb.model import Segment, Segments, tree_parts
from tests.acid.driving import commit, opened
from tests.engines.driving import create


def test_the_version_is_the_one_that_was_read() -> None:
    assert version("ZODB").startswith("6.")


READING = ("loadBefore",)
COMMITTING = ("store", "tpc_vote", "tpc_finish", "_abort")
OPENING = ("_save_index", "_restore_index", "_initIndex", "close")
OVERRIDDEN = {
    FileStorage: (*READING, *COMMITTING, *OPENING),
    BaseStorage: ("tpc_begin", "tpc_abort", "checkCurrentSerialInTransaction", "lastTransaction"),
    MappingStorage: ("tpc_finish",),
}


@pytest.mark.parametrize(
    ("owner", "name"), [(owner, name) for owner in OVERRIDDEN for name in OVERRIDDEN[owner]]
)
def test_what_is_overridden_or_called_is_there(owner: type, name: str) -> None:
    assert callable(getattr(owner, name))


@pytest.mark.parametrize("name", ["store", "tpc_begin", "tpc_vote", "tpc_finish", "loadBefore"])
def test_what_is_overridden_is_called_in_the_same_way(name: str) -> None:
    expected = inspect.signature(getattr(FileStorage, name)).parameters
    assert len(inspect.signature(getattr(ShardFileStorage, name)).parameters) == len(expected)


ATTRIBUTES = ("_pos", "_nextpos", "_tindex", "_index", "_index_get", "_ltid", "_tid", "_ude", "_tfile")
MORE_ATTRIBUTES = ("_file", "_files", "_file_name", "_lock", "_commit_lock", "_lock_file")


def test_the_attributes_that_are_used_are_there(tmp_path: Path) -> None:
    storage = FileStorage(str(tmp_path / "plain.fs"))
    storage.tpc_begin(TransactionMetaData())
    missing = [name for name in (*ATTRIBUTES, *MORE_ATTRIBUTES) if not hasattr(storage, name)]
    storage.close()
    assert missing == []


def test_finishing_in_filestorage_is_still_what_was_rewritten() -> None:
    """A change of this text is a change that ShardFileStorage may have to follow."""
    source = inspect.getsource(FileStorage._finish_finish)
    steps = ["self._file.flush()", "fsync(", "self._pos = self._nextpos", "self._index.update(self._tindex)"]
    places = [source.index(step) for step in [*steps, "self._ltid = tid", "self._blob_tpc_finish()"]]
    assert places == sorted(places)


def test_an_index_is_read_back(tmp_path: Path) -> None:
    index = fsIndex()
    for number in range(70_000):
        index[number.to_bytes(8, "big")] = 4 + number
    path = str(tmp_path / "000.fs")
    Path(index_path(path)).write_bytes(Contents(index, 12345, b"12345678", 678).encode())
    found = saved_contents(path)
    assert (found.end, found.tid, found.garbage_bytes) == (12345, b"12345678", 678)
    assert dict(found.index.items()) == dict(index.items())


def test_the_nodes_of_a_tree_are_found_in_its_state() -> None:
    for count in (0, 1, 20, 3000):
        tree = OOBTree({f"{number:05d}": number for number in range(count)})
        parts = list(tree_parts(tree))
        leaves = [part for part in parts if not hasattr(part, "_firstbucket") and part is not tree]
        held = sum(len(leaf) for leaf in leaves if type(leaf).__name__ == "OOBucket")
        assert parts[0] is tree
        assert held == (count if len(parts) > 1 else 0)
    sealed = Segments()
    for number in range(200):
        sealed[number] = Segment(b"")
    assert isinstance(sealed, LOBTree)
    assert len({id(part) for part in tree_parts(sealed)}) > 200 / Segments.max_leaf_size


def test_stock_zodb_can_still_read_the_file(tmp_path: Path) -> None:
    """The checksums lie behind the pickles, where nobody else looks."""
    with opened(tmp_path / "data") as storage:
        commit(storage, create("s", b"x" * 10_000))
    from ZODB.DB import DB

    database = DB(FileStorage(str(tmp_path / "data" / "acid" / "000.fs"), read_only=True))
    with database.transaction() as connection:
        assert list(connection.root()["streams"]) == ["s"]
        assert connection.root()["streams"]["s"].read(0, 10_000) == b"x" * 10_000
    database.close()


def test_no_temporary_file_is_asked_of_a_storage_that_has_none() -> None:
    assert "if self._tfile is not None" in inspect.getsource(FileStorage._clear_temp)
    assert "if self._tfile:" in inspect.getsource(FileStorage.close)


def test_zodb_reads_and_writes_nothing_through_files_of_its_own(tmp_path: Path) -> None:
    """They are closed. Once a tree has nodes, a transaction asks for the revisions of those that it has only read."""
    with opened(tmp_path / "data") as storage:
        for number in range(100):
            commit(storage, create(f"{number:02d}", b"x"))
        file = storage._shards[0].storage
        assert isinstance(file, ShardFileStorage)
        assert file._file.closed
        assert file._files.closed
        assert storage.names("", "", 1000) == [f"{number:02d}" for number in range(100)]


def test_nothing_that_zodb_calls_reads_a_record_without_checking_it() -> None:
    """A connection reads with ``loadBefore`` alone; the other ways to read would need the same care."""
    source = inspect.getsource(mvccadapter)
    assert set(re.findall(r"_storage\.(load\w*)\(", source)) == {"loadBefore", "loadBlob"} or set(
        re.findall(r"_storage\.(load\w*)\(", source)
    ) == {"loadBefore"}
