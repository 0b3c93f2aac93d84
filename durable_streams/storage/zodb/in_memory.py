"""CurrentStorage: a shard of the backend ``in-memory``, transactions without a disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ZODB.MappingStorage import MappingStorage
from ZODB.POSException import ConflictError, POSKeyError, StorageTransactionError
from ZODB.utils import newTid


class CurrentStorage(MappingStorage):  # type: ignore[misc]
    """Keeps the newest revision of every object and nothing else.

    A reader that began before a commit gets a ReadConflictError for what the commit has changed, and begins again.
    """

    _transaction: Any
    failed = None
    garbage_bytes = 0

    def delete_later(self, oids: Sequence[bytes]) -> None:
        for oid in oids:
            self._data.pop(oid, None)

    def getTid(self, oid: bytes) -> bytes:  # noqa: N802
        return self._current(oid)[1]

    def load(self, oid: bytes, version: str = "") -> tuple[bytes, bytes]:
        return self._current(oid)

    def _current(self, oid: bytes) -> tuple[bytes, bytes]:
        try:
            data, tid = self._data[oid]
        except KeyError:
            raise POSKeyError(oid) from None
        return data, tid

    def loadBefore(self, oid: bytes, tid: bytes) -> Any:  # noqa: N802
        data, current_tid = self._current(oid)
        return (data, current_tid, None) if current_tid < tid else None

    def getSize(self) -> int:  # noqa: N802
        return sum(len(data) for data, _ in self._data.values())

    def store(self, oid: bytes, serial: bytes, data: bytes, version: str, transaction: Any) -> None:
        if transaction is not self._transaction:
            raise StorageTransactionError(self, transaction)
        current = self._data.get(oid)
        if current is not None and current[1] != serial:
            raise ConflictError(oid=oid, serials=(current[1], serial), data=data)
        self._tdata[oid] = data

    def tpc_begin(self, transaction: Any, tid: bytes | None = None) -> None:
        super().tpc_begin(transaction, tid or newTid(self._ltid))

    def tpc_finish(self, transaction: Any, func: Callable[[bytes], None] = lambda tid: None) -> bytes:
        if transaction is not self._transaction:
            raise StorageTransactionError(self, transaction)
        tid: bytes = self._tid
        func(tid)
        self._data.update((oid, (data, tid)) for oid, data in self._tdata.items())
        self._ltid = tid
        self._transaction = None
        del self._tdata
        self._commit_lock.release()
        return tid
