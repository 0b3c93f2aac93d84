"""What was written, synced and renamed, in order, and every directory that a power cut at any moment could leave.

Knows nothing of any storage: whoever calls ``write``, ``sync`` and the others as it does these things to real files can
use it. Only what was synced is sure: contents by a sync of the file, names by a sync of their directory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from threading import Lock
from typing import Any

SECTOR_BYTES = 512
POLICIES = ("dropped", "kept", "zeroed", "reordered")
"""What becomes of that which was not synced: nothing of it survives; all of it; files have grown but hold zeros; any of
it, sector by sector and name by name."""


@dataclass
class Event:
    kind: str
    path: str
    arguments: tuple[Any, ...] = ()


@dataclass
class _File:
    """One inode: what surely is in it, and what may be."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, Event]] = field(default_factory=list)

    def settle(self, before: int) -> None:
        for _, event in [entry for entry in self.pending if entry[0] < before]:
            _carry_out(self.durable, event)
        self.pending = [entry for entry in self.pending if entry[0] >= before]


def _carry_out(content: bytearray, event: Event) -> None:
    if event.kind == "truncate":
        (size,) = event.arguments
        del content[size:]
        content.extend(bytes(size - len(content)))
    else:
        position, data = event.arguments
        content.extend(bytes(max(0, position - len(content))))
        content[position : position + len(data)] = data


class History:
    """Paths are relative to the directory that is watched; the methods may be called from any thread."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.events)

    def add(self, kind: str, path: str, *arguments: Any) -> None:
        """``kind``: create, make_dir, unlink; rename (target); write (position, data); truncate (size)."""
        with self._lock:
            self.events.append(Event(kind, path, arguments))

    def sync(self, path: str, began_at: int) -> None:
        """The file is synced, as it was when the history had length ``began_at``; what came since may be missing."""
        self.add("sync", path, began_at)

    def sync_dir(self, path: str, began_at: int) -> None:
        self.add("sync_dir", path, began_at)

    def note(self, what: Any) -> None:
        """Something that the test wants to find again at this place, such as an acknowledgement."""
        self.add("note", "", what)

    def until(self, length: int) -> History:
        """The first ``length`` events, to which the next process adds its own: a kill loses and syncs nothing."""
        beginning = History()
        beginning.events = self.events[:length]
        return beginning

    def before_syncs(self, length: int) -> Iterator[int]:
        """The lengths from ``length`` on after which the most can be lost: a sync comes next, or nothing."""
        for number, event in enumerate(self.events[length:], length):
            if event.kind in ("sync", "sync_dir"):
                yield number
        yield len(self)

    def moments(self, random: Random) -> list[int]:
        """One length after each kind of event in each kind of file, and after the first event: where to kill."""
        kinds: dict[tuple[str, str, str], list[int]] = {}
        for number, event in enumerate(self.events, 1):
            folder, name = os.path.split(event.path)
            kind = event.kind, folder.split("/")[0], os.path.splitext(name)[1]
            kinds.setdefault(kind, []).append(number)
        return sorted({random.choice(numbers) for numbers in kinds.values()})

    def notes(self, length: int) -> Iterator[Any]:
        """What was noted in the first ``length`` events."""
        return (event.arguments[0] for event in self.events[:length] if event.kind == "note")

    def crash(self, length: int, policy: str, random: Random, target: Path) -> None:
        """Fill the empty directory ``target`` with what a power cut after ``length`` events could have left."""
        state = _State()
        for number, event in enumerate(self.events[:length]):
            state.see(number, event)
        state.leave(policy, random, target)


class _State:
    """Names are entries of their directory: a path leads to a file, or to None where a directory was made."""

    def __init__(self) -> None:
        self._live: dict[str, _File | None] = {}
        self._durable: dict[str, _File | None] = {}
        self._pending: list[tuple[int, dict[str, _File | None], list[str]]] = []
        """Changes of names that no sync of their directory covers: number, names set, names removed."""

    def see(self, number: int, event: Event) -> None:
        path = event.path
        match event.kind:
            case "create":
                self._name(number, {path: _File()}, [])
            case "make_dir":
                self._name(number, {path: None}, [])
            case "unlink":
                self._name(number, {}, [path])
            case "rename":
                (target,) = event.arguments
                self._name(number, {target: self._live[path]}, [path])
            case "write" | "truncate":
                self._file(path).pending.append((number, event))
            case "sync":
                self._file(path).settle(event.arguments[0])
            case "sync_dir":
                self._settle_names(path, event.arguments[0])

    def _file(self, path: str) -> _File:
        file = self._live[path]
        assert file is not None, f"{path} is a directory"
        return file

    def _name(self, number: int, names: dict[str, _File | None], removed: list[str]) -> None:
        self._pending.append((number, names, removed))
        _rename(self._live, names, removed)

    def _settle_names(self, folder: str, before: int) -> None:
        kept = []
        for number, names, removed in self._pending:
            if number < before and all(os.path.dirname(path) == folder for path in (*names, *removed)):
                _rename(self._durable, names, removed)
            else:
                kept.append((number, names, removed))
        self._pending = kept

    def leave(self, policy: str, random: Random, target: Path) -> None:
        names = dict(self._durable)
        for _, added, removed in self._pending:
            if policy in ("kept", "zeroed") or (policy == "reordered" and random.random() < 0.5):
                _rename(names, added, removed)
        for path in sorted(names):
            place, file = target / path, names[path]
            if not place.parent.is_dir():
                continue
            if file is None:
                place.mkdir()
            else:
                place.write_bytes(_content(file, policy, random))


def _rename(names: dict[str, _File | None], added: dict[str, _File | None], removed: list[str]) -> None:
    for path in removed:
        names.pop(path, None)
    names.update(added)


def _content(file: _File, policy: str, random: Random) -> bytes:
    content = bytearray(file.durable)
    for _, event in file.pending:
        if policy == "kept":
            _carry_out(content, event)
        elif policy == "zeroed" and event.kind == "write":
            position, data = event.arguments
            content.extend(bytes(max(0, position + len(data) - len(content))))
        elif policy == "reordered":
            _carry_out_some(content, event, random)
    return bytes(content)


def _carry_out_some(content: bytearray, event: Event, random: Random) -> None:
    """Each sector of a write arrives or does not; that a file has grown is seen even where its data did not arrive."""
    if event.kind == "truncate":
        if random.random() < 0.5:
            _carry_out(content, event)
        return
    position, data = event.arguments
    end = position + len(data)
    if random.random() < 0.5:
        content.extend(bytes(max(0, end - len(content))))
    at = position
    while at < end:
        stop = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES)
        if random.random() < 0.6:
            _carry_out(content, Event("write", "", (at, data[at - position : stop - position])))
        at = stop
