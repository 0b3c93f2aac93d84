"""One batch as the parameters of one statement."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from durable_streams.protocol.expiry import swept_at
from durable_streams.protocol.state import StreamState
from durable_streams.storage.contract import Change, Unit
from durable_streams.storage.postgres import arrays
from durable_streams.storage.postgres.entries import Entry, changed_entries, encode_row

CHUNK_BYTES_MAX: Final = 1 << 20
RESTS_ON: Final = -1
"""The number in place of a unit's for a state that is confirmed and not changed."""

COMMIT: Final = b"select * from ds_commit($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"
COMMIT_ENTRIES: Final = (
    b"with lost as materialized ("
    + COMMIT
    + b"""),
    kept as materialized (
        select e.uid, e.key, e.data
            from unnest($16::text[], $17::integer[], $18::bytea[], $19::bytea[]) as e (uid, unit, key, data)
            where e.unit not in (
                select u.unit from unnest($4::text[], $5::integer[]) as u (name, unit)
                    where u.name in (select lost_name from lost))),
    cleared as (delete from entries e using kept k where k.key is null and e.uid = k.uid),
    gone as (delete from entries e using kept k where k.data is null and e.uid = k.uid and e.key = k.key),
    put as (
        insert into entries (uid, key, data) select uid, key, data from kept where data is not null
            on conflict (uid, key) do update set data = excluded.data)
    select * from lost"""
)
"""The same, and the entries of the units that were kept. Who changes an entry has locked the row of its stream."""


def new_mark() -> int:
    """A random number of 63 bits, never 0."""
    return int.from_bytes(os.urandom(8)) >> 1 or 1


def marked(state: StreamState | None) -> tuple[bytes | None, int | None]:
    """The uid and mark by which a recorded state is recognised."""
    if state is None:
        return None, None
    assert isinstance(state.mark, int)
    return state.config.uid.encode(), state.mark


@dataclass(slots=True)
class Batch:
    """The arrays of one commit, one item a change, and one a chunk of payload."""

    number: int = field(default_factory=new_mark)
    changes: list[Change] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    units: list[int] = field(default_factory=list)
    before: list[tuple[bytes | None, int | None]] = field(default_factory=list)
    uids: list[bytes | None] = field(default_factory=list)
    marks: list[int | None] = field(default_factory=list)
    rows: list[bytes | None] = field(default_factory=list)
    due: list[float | None] = field(default_factory=list)
    chunks: list[tuple[bytes, int, int, bytes]] = field(default_factory=list)
    """uid, unit, start, data."""
    entries: list[tuple[int, Entry]] = field(default_factory=list)
    """unit, entry."""

    def statement(self) -> tuple[bytes, bytes]:
        """Its name and its text."""
        return (b"commit_entries", COMMIT_ENTRIES) if self.entries else (b"commit", COMMIT)

    def parameters(self, writer: str, epoch: int) -> list[bytes]:
        return self._commit_parameters(writer, epoch) + self._entry_parameters()

    def _entry_parameters(self) -> list[bytes]:
        entries = self.entries
        if not entries:
            return []
        return [
            arrays.octets([uid for _, (uid, _, _) in entries], arrays.TEXT),
            arrays.int4s([unit for unit, _ in entries]),
            arrays.octets([key for _, (_, key, _) in entries]),
            arrays.octets([data for _, (_, _, data) in entries]),
        ]

    def _commit_parameters(self, writer: str, epoch: int) -> list[bytes]:
        chunks = self.chunks
        return [
            writer.encode(),
            arrays.int8(epoch),
            arrays.int8(self.number),
            arrays.texts(self.names),
            arrays.int4s(self.units),
            arrays.octets([uid for uid, _ in self.before], arrays.TEXT),
            arrays.int8s([mark for _, mark in self.before]),
            arrays.octets(self.uids, arrays.TEXT),
            arrays.int8s(self.marks),
            arrays.octets(self.rows),
            arrays.float8s(self.due),
            arrays.octets([uid for uid, _, _, _ in chunks], arrays.TEXT),
            arrays.int4s([unit for _, unit, _, _ in chunks]),
            arrays.int8s([start for _, _, start, _ in chunks]),
            arrays.octets([data for _, _, _, data in chunks]),
        ]

    def add(self, number: int, change: Change) -> None:
        """One change of the unit ``number``."""
        self.changes.append(change)
        after = change.after
        self._add(change.name, number, change.before, after)
        if after is not None:
            start = after.config.forked_at
            if change.before is not None and not change.is_new:
                start = change.before.tail
            uid = after.config.uid.encode()
            for data in _pieces(b"".join(change.appended)):
                self.chunks.append((uid, number, start, data))
                start += len(data)
        self.entries += [(number, entry) for entry in changed_entries(change)]

    def rest_on(self, name: str, state: StreamState | None) -> None:
        """``state`` has to be the recorded one; nothing changes it."""
        self._add(name, RESTS_ON, state, None)

    def kept(self, lost: Mapping[str, object]) -> Iterator[tuple[Change, int | None]]:
        """The changes that were recorded, with their marks: all but those of units with a lost stream."""
        lost_units = {unit for name, unit in zip(self.names, self.units, strict=True) if name in lost}
        for change, unit, mark in zip(self.changes, self.units, self.marks, strict=False):
            if unit not in lost_units:
                yield change, mark

    def _add(self, name: str, unit: int, before: StreamState | None, after: StreamState | None) -> None:
        self.names.append(name)
        self.units.append(unit)
        self.before.append(marked(before))
        self.uids.append(after.config.uid.encode() if after else None)
        self.marks.append(new_mark() if after else None)
        self.rows.append(encode_row(after) if after else None)
        self.due.append(swept_at(after) if after else None)


def batch_of(units: Sequence[Unit], rests_on: Mapping[str, StreamState | None]) -> Batch:
    """The changes come first, so their places are those of ``Batch.changes``."""
    batch = Batch()
    for number, unit in enumerate(units):
        for change in unit:
            batch.add(number, change)
    for name, state in rests_on.items():
        batch.rest_on(name, state)
    return batch


def _pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), CHUNK_BYTES_MAX):
        yield data[start : start + CHUNK_BYTES_MAX]
