"""The ZODB database of a shard, and the storage of one that lives in memory.

Connections write all objects of a transaction with one pickler: ZODB makes one for every object, which is a third of
the CPU time of a transaction of many small appends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from persistent import Persistent
from ZODB.Connection import Connection
from ZODB.DB import DB
from ZODB.MappingStorage import MappingStorage
from ZODB.serialize import ObjectWriter

from durable_streams.storage.zodb.model import Head

FORMER_MODULES: Final = {"durable_streams.backends.zodb.model": Head.__module__}
"""Names are recorded with every object, so a directory may hold those of older versions."""


class _TransactionWriter(ObjectWriter):  # type: ignore[misc]
    """Used for one object after the other; what they refer to and is new comes after them."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._jar = connection

    def add(self, obj: Persistent) -> None:
        self._stack.append(obj)


class OneWriterConnection(Connection):  # type: ignore[misc]
    """One writer a transaction, instead of one an object."""

    def _commit(self, transaction: Any) -> None:
        writer = _TransactionWriter(self)
        for obj in self._registered_objects:
            oid = obj._p_oid
            # What is new may have been written with an object that refers to it.
            if oid in self._added or (obj._p_changed and oid not in self._creating):
                writer.add(obj)
                self._store_objects(writer, transaction)


class ShardDatabase(DB):  # type: ignore[misc]
    """With such connections."""

    klass = OneWriterConnection

    def classFactory(self, connection: Connection, modulename: str, globalname: str) -> Any:  # noqa: N802
        """The class that a record names, which may be by a module that model.py has once been."""
        return super().classFactory(connection, FORMER_MODULES.get(modulename, modulename), globalname)


class MemoryShard(MappingStorage):  # type: ignore[misc]
    """Drops what a transaction replaces, which ZODB's own storage keeps until it is packed.

    A reader that began before that is told that the object has gone, and begins again.
    """

    failed: BaseException | None = None

    def tpc_finish(self, transaction: Any, func: Callable[[bytes], None] = lambda tid: None) -> bytes:
        changed = list(self._tdata)
        tid: bytes = super().tpc_finish(transaction, func)
        # The newest one stays in both: the next transaction gets a later id.
        for revisions in (self._transactions, *map(self._data.get, changed)):
            for old in list(revisions)[:-1]:
                del revisions[old]
        return tid

    def delete_later(self, oids: Sequence[bytes]) -> None:
        """Objects that no committed object refers to."""
        for oid in oids:
            self._data.pop(oid, None)
