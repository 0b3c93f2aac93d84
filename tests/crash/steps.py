"""What a client does next: a random step that fits the streams it has.

Every step says what must be the case after it, so that the checker needs to know no step.
"""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable
from dataclasses import replace

from tests.crash.client import stream_path
from tests.crash.ledger import FAR_INSTANT, FAR_SECONDS, Batch, Known, Step, World
from tests.model import JSON, Content, Producer

TEXT, BYTES = "text/plain", "application/octet-stream"
STREAMS_MAX = 24
"""How many streams a client keeps; with more it rather deletes."""
BRIEF_TTL_S = 2
LONG_TTL_S = 7200


class Chooser:
    """Chooses the steps of one client, whose streams all begin with `prefix`."""

    def __init__(self, rng: random.Random, world: World, prefix: str) -> None:
        self.rng = rng
        self._world = world
        self._prefix = prefix
        self._created = 0
        self._sent = 0

    def next_step(self) -> Step:
        """A step that the server has to accept."""
        open_names = [name for name, known in self._usable().items() if not known.stream.closed]
        if len(open_names) < 3:
            return self._create()
        choices: list[tuple[int, Callable[[], Step]]] = [
            (60, lambda: self._append(self.rng.choice(open_names))),
            (4, lambda: self._close(self.rng.choice(open_names))),
            (10, self._create),
            (8, self._fork),
            (30 if len(self._usable()) > STREAMS_MAX else 6, self._remove),
        ]
        weights, makers = zip(*choices, strict=True)
        return self.rng.choices(makers, weights)[0]()

    def _usable(self) -> dict[str, Known]:
        """Streams that a client may still see, and that will not expire in the middle of a step."""
        return {
            name: known
            for name, known in self._world.streams.items()
            if not known.stream.deleted and known.stream.ttl != BRIEF_TTL_S
        }

    # -- create, fork, delete --------------------------------------------------------------------------------

    def _create(self) -> Step:
        name = self._new_name()
        content_type = self.rng.choice((TEXT, BYTES, JSON))
        closed = self.rng.random() < 0.05
        ttl, expires_at = self._lifetime()
        body, content = self._first_payload(content_type)
        headers = {"Content-Type": content_type}
        if ttl is not None:
            headers["Stream-TTL"] = str(ttl)
        if expires_at is not None:
            headers["Stream-Expires-At"] = FAR_INSTANT
        if closed:
            headers["Stream-Closed"] = "true"
        after = self._world.after(
            lambda model: model.create(name, content_type, content, ttl, expires_at, closed)
        )
        return Step("PUT", name, headers, body, after, (201,), (200,))

    def _lifetime(self) -> tuple[int | None, float | None]:
        kind = self.rng.random()
        if kind < 0.1:
            return BRIEF_TTL_S, None
        if kind < 0.2:
            return LONG_TTL_S, None
        return None, FAR_SECONDS if kind < 0.3 else None

    def _first_payload(self, content_type: str) -> tuple[bytes, Content]:
        if self.rng.random() < 0.5:
            return self._payload(content_type == JSON)
        return b"", () if content_type == JSON else b""

    def _new_name(self) -> str:
        """A name that was used before comes back now and then."""
        free = [name for name in self._world.removed if name not in self._world.streams]
        if free and self.rng.random() < 0.3:
            return self.rng.choice(free)
        self._created += 1
        return f"{self._prefix}/{self.rng.choice(('a', 'b/c', 'ü'))}/{self._created}"

    def _fork(self) -> Step:
        source_name = self.rng.choice(list(self._usable()))
        source = self._world.streams[source_name]
        name = self._new_name()
        offset, length = self.rng.choice(source.marks)
        rest = len(source.content) - length
        sub_offset = self.rng.randint(0, min(rest, 5)) if self.rng.random() < 0.4 else 0
        headers = {"Stream-Forked-From": stream_path(source_name)}
        if rest or self.rng.random() < 0.5:
            headers["Stream-Fork-Offset"] = offset
        if sub_offset:
            headers["Stream-Fork-Sub-Offset"] = str(sub_offset)
        point = length + sub_offset
        none: Content = () if source.is_json else b""
        after = self._world.after(lambda model: model.fork(name, source_name, none, length, sub_offset))
        marks = tuple(mark for mark in source.marks if mark[1] <= point)
        fork = after[name]
        assert fork is not None
        return Step("PUT", name, headers, b"", after | {name: replace(fork, marks=marks)}, (201,), (200,))

    def _remove(self) -> Step:
        name = self.rng.choice(list(self._usable()))
        after = self._world.after(lambda model: model.remove(name))
        again = (410,) if after[name] is not None else (404,)
        return Step("DELETE", name, {}, b"", after, (204,), again)

    # -- append, close ---------------------------------------------------------------------------------------

    def _append(self, name: str) -> Step:
        known = self._world.streams[name]
        body, content = self._payload(known.is_json)
        headers = {"Content-Type": known.stream.content_type}
        stream_seq = None
        if self.rng.random() < 0.2:
            stream_seq = f"{int(known.stream.stream_seq or 0) + 1:09d}"
            headers["Stream-Seq"] = stream_seq
        close = self.rng.random() < 0.05
        if close:
            headers["Stream-Closed"] = "true"
        producer = self._producer(known) if self.rng.random() < 0.6 else None
        batch = None if close else known.batch
        if producer:
            fields = ("Producer-Id", "Producer-Epoch", "Producer-Seq")
            headers |= dict(zip(fields, map(str, producer), strict=True))
            batch = Batch(headers, body)
        after = self._changed(name, known.stream.content_type, content, close, stream_seq, producer, batch)
        return Step("POST", name, headers, body, after, *(((200,), (204,)) if producer else ((204,), ())))

    def _changed(
        self,
        name: str,
        content_type: str,
        content: Content,
        close: bool,
        stream_seq: str | None,
        producer: Producer | None,
        batch: Batch | None,
    ) -> dict[str, Known | None]:
        """What an append makes of a stream, with the batch that is remembered of it."""
        after = self._world.after(
            lambda model: model.append(name, content_type, content, close, stream_seq, producer)
        )
        known = after[name]
        assert known is not None
        return {name: replace(known, batch=batch)}

    def _producer(self, known: Known) -> Producer:
        producer = self.rng.choice(("one", "two"))
        epoch, seq = known.stream.producers.get(producer, (0, -1))
        if seq >= 0 and self.rng.random() < 0.05:
            return producer, epoch + 1, 0
        return producer, epoch, seq + 1

    def _close(self, name: str) -> Step:
        known = self._world.streams[name]
        none: Content = () if known.is_json else b""
        after = self._changed(name, known.stream.content_type, none, True, None, None, None)
        return Step("POST", name, {"Stream-Closed": "true"}, b"", after, (204,), (204,))

    # -- payload ---------------------------------------------------------------------------------------------

    def _payload(self, is_json: bool) -> tuple[bytes, Content]:
        """A body, and what it adds to the stream. No two bodies of a client are alike."""
        self._sent += 1
        if not is_json:
            size = self.rng.choice((1, 20, 200, 200, 3000)) if self.rng.random() < 0.98 else 90_000
            body = f"<{self._prefix}#{self._sent}:{self._filling(size)}>".encode()
            return body, body
        messages = tuple(
            {"client": self._prefix, "n": [self._sent, place], "text": self._filling(20)}
            for place in range(self.rng.randint(1, 4))
        )
        return json.dumps(messages, ensure_ascii=False).encode(), messages

    def _filling(self, size: int) -> str:
        return "".join(self.rng.choices(string.ascii_letters, k=20)) * (size // 20)
