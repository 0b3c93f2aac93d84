"""How the changed objects of a transaction become records: as ZODB does it, but heads without its pickler.

ZODB makes a pickler for every object, and calls a Python function for everything that the pickler meets: that was a
third of a transaction of many small appends. A head is one byte string and references, so its pickles can be put
together by hand. They stay ones that ZODB reads and finds the references in; tests/acid/test_writing.py compares the
two ways.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Final

from persistent import Persistent
from ZODB.Connection import Connection
from ZODB.DB import DB
from ZODB.serialize import ObjectWriter

from durable_streams.storage.zodb.model import Head

# Opcodes of pickle, protocol 3.
_PROTO, _STOP, _MARK, _TUPLE = b"\x80\x03", b".", b"(", b"t"
_BINBYTES: Final = Struct("<cI")
_OID: Final = b"C\x08"
_PERSISTENT_ID: Final = b"\x86Q"
"""Of the two things before it: object id and class."""


def _global(cls: type) -> bytes:
    return f"c{cls.__module__}\n{cls.__name__}\n".encode()


_HEAD_CLASS: Final = _PROTO + _global(Head) + _STOP


class RecordWriter(ObjectWriter):  # type: ignore[misc]
    """Used for all objects of a transaction, one after the other; what they refer to and is new comes after them."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._jar = connection

    def add(self, obj: Persistent) -> None:
        self._stack.append(obj)

    def serialize(self, obj: Persistent) -> bytes:
        if type(obj) is not Head:
            record: bytes = super().serialize(obj)
            return record
        state = obj.__getstate__()
        if isinstance(state, bytes):
            return b"".join((_HEAD_CLASS, _PROTO, _BINBYTES.pack(b"B", len(state)), state, _STOP))
        packed, *references = state
        parts = [_HEAD_CLASS, _PROTO, _MARK, _BINBYTES.pack(b"B", len(packed)), packed]
        parts += self._references(references)
        return b"".join((*parts, _TUPLE, _STOP))

    def _references(self, objects: list[Persistent]) -> list[bytes]:
        """A class is named where it comes first, and after that referred to by its number."""
        parts: list[bytes] = []
        known: dict[type, bytes] = {}
        for obj in objects:
            cls = type(obj)
            # What is new gets an id, and is put on the stack.
            oid = obj._p_oid or self.persistent_id(obj)[0]
            named = known.get(cls)
            if named is None:
                number = bytes([len(known)])
                known[cls], named = b"h" + number, _global(cls) + b"q" + number
            parts += (_OID, oid, named, _PERSISTENT_ID)
        return parts


class OneWriterConnection(Connection):  # type: ignore[misc]
    """One writer a transaction, instead of one an object."""

    def _commit(self, transaction: Any) -> None:
        writer = RecordWriter(self)
        for obj in self._registered_objects:
            oid = obj._p_oid
            # What is new may have been written with an object that refers to it.
            if oid in self._added or (obj._p_changed and oid not in self._creating):
                writer.add(obj)
                self._store_objects(writer, transaction)


class Database(DB):  # type: ignore[misc]
    """With such connections."""

    klass = OneWriterConnection
