"""Reading all of a storage through its port, for those that have no verification of their own on this machine."""

from __future__ import annotations

from durable_streams.protocol.errors import StreamDamaged, StreamNotFound
from durable_streams.protocol.state import StreamState
from durable_streams.storage.contract import Storage
from durable_streams.storage.on_disk.report import Report
from durable_streams.streams.copying import PIECE_BYTES, stream_names


def verify_streams(storage: Storage) -> Report:
    """Read every byte of every stream; servers may go on serving. A stream that goes meanwhile is no problem."""
    report = Report()
    forks: list[StreamState] = []
    for names in stream_names(storage):
        for name, found in storage.find(names).items():
            if isinstance(found, StreamDamaged):
                report.problems.append(f"stream {name!r}: {found.cause}")
            elif found is not None and _is_readable(storage, found, report):
                report.add(found)
                if found.config.fork is not None:
                    forks.append(found)
    for fork in forks:
        _check_source(storage, fork, report)
    return report


def _is_readable(storage: Storage, state: StreamState, report: Report) -> bool:
    try:
        for start in range(state.config.forked_at, state.tail, PIECE_BYTES):
            stop = min(start + PIECE_BYTES, state.tail)
            size = len(storage.read(state, start, stop))
            if size != stop - start:
                raise StreamDamaged(f"{stop - start - size} bytes are missing from position {start} on")
    except StreamNotFound:
        return False
    except StreamDamaged as damaged:
        report.problems.append(f"stream {state.name!r}: {damaged.cause}")
        return False
    return True


def _check_source(storage: Storage, state: StreamState, report: Report) -> None:
    """As of now: the source may have grown, and the fork may have gone, since they were read."""
    fork = state.config.fork
    assert fork is not None
    found = storage.find([state.name, fork.source])
    now, source = found[state.name], found[fork.source]
    if not isinstance(now, StreamState) or now.config.uid != state.config.uid:
        return
    if not isinstance(source, StreamState) or source.config.uid != fork.source_uid:
        report.problems.append(f"stream {state.name!r} has lost its source {fork.source!r}")
    elif source.tail < fork.position:
        report.problems.append(f"stream {state.name!r} begins beyond the tail of its source {fork.source!r}")
