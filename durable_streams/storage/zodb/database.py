"""The ZODB database of a shard, and the storage of one that lives in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from ZODB.Connection import Connection
from ZODB.DB import DB
from ZODB.MappingStorage import MappingStorage

from durable_streams.storage.zodb.model import Head

FORMER_MODULES: Final = {"durable_streams.backends.zodb.model": Head.__module__}
"""Names are recorded with every object, so a directory may hold those of older versions."""


class ShardDatabase(DB):  # type: ignore[misc]
    """Finds the classes of records that older versions have written."""

    def classFactory(self, connection: Connection, modulename: str, globalname: str) -> Any:  # noqa: N802
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
