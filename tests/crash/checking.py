"""Holds a recovered server against what its clients know, and settles what they were in doubt about.

An independent judge: it knows the protocol and the ledgers, and asks the server over HTTP only.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace

from tests.crash.client import Client, Seen, read_all
from tests.crash.ledger import Known, Step, World
from tests.crash.writers import Shared, Violation, Writer, expect
from tests.model import Content

PROBES = 6
"""Streams of each writer that are written to again in ways that must change nothing."""
OFFSETS = 3
"""Writers of which an old offset in each shared stream is looked at."""


def check_writer(client: Client, writer: Writer, rng: random.Random) -> None:
    """Every stream of a writer is what was acknowledged; raises Violation. Afterwards nothing is in doubt."""
    _settle(client, writer)
    world = writer.world
    for name in list(world.streams):
        _check_stream(client, world, name)
    for name in world.removed:
        if name not in world.streams:
            _expect_absent(client, name)
    usable = [
        name for name, known in world.streams.items() if not known.stream.deleted and known.stream.ttl is None
    ]
    for name in rng.sample(usable, min(PROBES, len(usable))):
        _probe(client, name, world.streams[name], rng)


# -- one stream ----------------------------------------------------------------------------------------------


def _check_stream(client: Client, world: World, name: str) -> None:
    known = world.streams[name]
    ttl = known.stream.ttl
    asked_at = time.time()
    seen = read_all(client, name)
    answered_at = time.time()
    if seen.status == 404 and ttl is not None and answered_at >= known.written_at + ttl:
        # Reads renew a window without a promise that a crash does not shorten it.
        world.forget(name)
        return
    if seen.status == 404 and world.may_have_gone(name):
        world.forget(name)
        source = known.stream.source
        if source in world.streams:
            world.streams[source] = replace(world.streams[source], lingering=True)
        return
    if ttl is not None and seen.status == 200 and asked_at > known.touched_at + ttl * (1 + world.late_expiry):
        raise Violation(f"{name} should have expired: TTL {ttl}, last touched {known.touched_at}")
    if (difference := difference_of(known, seen)) is not None:
        raise Violation(f"{name} {difference}")
    if seen.status == 200:
        world.streams[name] = replace(known, touched_at=answered_at)
        if ttl is not None or known.expires_at is not None:
            _check_lifetime(client, name, known)


def difference_of(known: Known | None, seen: Seen) -> str | None:
    """In which way a stream is not what it should be; None means that it is."""
    stream = known.stream if known else None
    wanted = 404 if stream is None else 410 if stream.deleted else 200
    if seen.status != wanted:
        return f"answers {seen.status} instead of {wanted}"
    if known is None or stream is None or stream.deleted:
        return None
    if seen.content_type != stream.content_type:
        return f"has content type {seen.content_type} instead of {stream.content_type}"
    if seen.content != stream.content:
        return f"holds {difference_of_content(stream.content, seen.content)}"
    if seen.closed != stream.closed:
        return f"is {'closed' if seen.closed else 'open'} and should not be"
    if seen.tail != known.tail:
        return f"ends at {seen.tail} instead of {known.tail}"
    return None


def difference_of_content(known: Content, seen: Content) -> str:
    place = next(
        (place for place, (one, other) in enumerate(zip(known, seen, strict=False)) if one != other),
        min(len(known), len(seen)),
    )
    return (
        f"{len(seen)} instead of {len(known)} bytes or messages; from {place} on "
        f"{seen[place : place + 60]!r} instead of {known[place : place + 60]!r}"
    )


def _check_lifetime(client: Client, name: str, known: Known) -> None:
    answer = client.send("HEAD", name)
    found = answer.headers.get("stream-ttl"), answer.headers.get("stream-expires-at")
    ttl = known.stream.ttl
    wanted = None if ttl is None else str(ttl), known.expires_at
    # A brief window may have ended since the read.
    if answer.status == 200 and found != wanted:
        raise Violation(f"HEAD {name} shows the lifetime {found} instead of {wanted}")


def _expect_absent(client: Client, name: str) -> None:
    status = client.send("HEAD", name).status
    if status != 404:
        raise Violation(f"{name} was deleted, and answers {status}")


# -- the step in doubt ---------------------------------------------------------------------------------------


def _settle(client: Client, writer: Writer) -> None:
    """The step that was never answered has happened wholly or not at all; then it is sent again."""
    world, step = writer.world, writer.world.doubt
    if step is None:
        return
    happened = _has_happened(client, world, step)
    world.doubt = None
    before = {name: world.streams[name] for name in step.after if name in world.streams}
    if step.again:
        writer.take(client, step, step.again if happened else step.statuses)
    elif happened:
        world.accept(step, read_all(client, step.name).tail, world.doubted_from, time.time())
    for name in set(step.after) - {step.name}:
        # A source that goes with its last fork: when a crash comes between, it stays deleted for a while.
        if name in world.removed and client.send("HEAD", name).status == 410:
            del world.removed[name]
            world.streams[name] = replace(before[name], lingering=True)


def _has_happened(client: Client, world: World, step: Step) -> bool:
    before, after = world.streams.get(step.name), step.after[step.name]
    seen = read_all(client, step.name)
    if _fits(before, seen):
        return False
    if _fits(after, seen):
        return True
    if after is not None and after.stream.ttl is not None and seen.status == 404:
        return False
    raise Violation(
        f"{step.method} {step.name} was in doubt and happened in part: before it, the stream "
        f"{difference_of(before, seen)}; after it, it {difference_of(after, seen)}"
    )


def _fits(known: Known | None, seen: Seen) -> bool:
    """Like `difference_of`, for a stream whose tail may be one that no answer has named yet."""
    if known is None or known.stream.deleted:
        return difference_of(known, seen) is None
    tail = known.tail if known.marks and known.marks[-1][1] == len(known.content) else seen.tail
    return difference_of(replace(known, marks=((tail, len(known.content)),)), seen) is None


# -- what must change nothing --------------------------------------------------------------------------------


def _probe(client: Client, name: str, known: Known, rng: random.Random) -> None:
    offset, length = rng.choice(known.marks)
    rest = read_all(client, name, offset)
    if rest.content != known.content[length:]:
        difference = difference_of_content(known.content[length:], rest.content)
        raise Violation(f"{name} from its old offset {offset}: {difference}")
    if known.batch is not None:
        answer = client.send("POST", name, known.batch.headers, known.batch.body)
        expect(answer, (204,), f"a batch of {name} sent again, {dict(known.batch.headers)}")
        _expect_tail(name, answer.headers["stream-next-offset"], known)
    headers = {"Content-Type": known.stream.content_type}
    body = b"[1]" if known.is_json else b"must not be kept"
    if known.stream.closed:
        answer = client.send("POST", name, headers, body)
        expect(answer, (409,), f"an append to {name}, which is closed")
        _expect_tail(name, answer.headers["stream-next-offset"], known)
    elif known.stream.stream_seq is not None:
        answer = client.send("POST", name, headers | {"Stream-Seq": known.stream.stream_seq}, body)
        expect(answer, (409,), f"Stream-Seq {known.stream.stream_seq} of {name} once more")


def _expect_tail(name: str, tail: str, known: Known) -> None:
    if tail != known.tail:
        raise Violation(f"{name} has grown to {tail} from {known.tail} by what must change nothing")


# -- shared streams ------------------------------------------------------------------------------------------


def check_shared(client: Client, stream: Shared, writers: list[Writer], rng: random.Random) -> None:
    """Every acknowledged record is there once, in its writer's order; raises Violation."""
    seen = read_all(client, stream.name)
    if seen.status != 200 or seen.content_type != stream.content_type:
        raise Violation(f"{stream.name} answers {seen.status} {seen.content_type}")
    if seen.content[: len(stream.seen)] != stream.seen:
        raise Violation(
            f"{stream.name} has shown what it no longer has: {difference_of_content(stream.seen, seen.content)}"
        )
    try:
        records = stream.records(seen.content)
    except ValueError as exc:
        raise Violation(f"{stream.name} holds a torn record: {exc}") from exc
    for writer in writers:
        mine = [number for owner, number in records if owner == writer.number]
        _check_batches_are_whole(stream, writer, records)
        _settle_shared(client, stream, writer, mine)
    everything = stream.records(read_all(client, stream.name).content)
    for writer in rng.sample(writers, min(len(writers), OFFSETS)):
        _check_old_offset(client, stream, writer, everything, rng)


def _settle_shared(client: Client, stream: Shared, writer: Writer, found: list[int]) -> None:
    wanted = [number for append in stream.acknowledged[writer.number] for number in append.numbers]
    doubt = stream.doubt.get(writer.number)
    happened = doubt is not None and found == wanted + list(doubt.numbers)
    if found != wanted and not happened:
        raise Violation(
            f"{stream.name}, writer {writer.number}: {difference_of_content(tuple(wanted), tuple(found))}; "
            f"in doubt: {doubt and doubt.numbers}"
        )
    if doubt is None:
        return
    if writer.is_producer:
        answer = writer.send_shared(client, stream, doubt)
        expect(answer, (204,) if happened else (200,), f"{doubt.headers} of {stream.name} sent again")
    elif happened:
        writer.file_shared(stream)
    else:
        del stream.doubt[writer.number]


def _check_batches_are_whole(stream: Shared, writer: Writer, records: list[tuple[int, int]]) -> None:
    places = {record: place for place, record in enumerate(records)}
    for append in stream.acknowledged[writer.number]:
        found = [places.get((writer.number, number), -1) for number in append.numbers]
        if found != list(range(found[0], found[0] + len(found))):
            raise Violation(
                f"{stream.name}: the batch {append.numbers} of writer {writer.number} is torn apart"
            )


def _check_old_offset(
    client: Client, stream: Shared, writer: Writer, everything: list[tuple[int, int]], rng: random.Random
) -> None:
    """An offset that an answer has named lies right behind what that answer was for."""
    named = [append for append in stream.acknowledged[writer.number] if append.next_offset]
    if not named:
        return
    append = rng.choice(named)
    behind = stream.records(read_all(client, stream.name, append.next_offset).content)
    before = everything[: len(everything) - len(behind)]
    wanted = [(writer.number, number) for number in append.numbers]
    if everything[len(before) :] != behind or before[-len(wanted) :] != wanted:
        raise Violation(f"{stream.name}: offset {append.next_offset} is not the end of {wanted}")
