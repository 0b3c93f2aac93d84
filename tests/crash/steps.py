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
from tests.crash.ledger import Batch, Known, Step, World

TEXT, BYTES, JSON = "text/plain", "application/octet-stream", "application/json"
STREAMS_MAX = 24
"""How many streams a client keeps; with more it rather deletes."""
BRIEF_TTL_S = 2
LONG_TTL_S = 7200
FAR_INSTANT = "2099-01-02T03:04:05.678Z"


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
        open_names = [name for name, known in self._usable().items() if not known.closed]
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
            if not known.deleted and known.ttl_s != BRIEF_TTL_S
        }

    # -- create, fork, delete --------------------------------------------------------------------------------

    def _create(self) -> Step:
        name = self._new_name()
        known = Known(self.rng.choice((TEXT, BYTES, JSON)), closed=self.rng.random() < 0.05)
        headers = {"Content-Type": known.content_type}
        kind = self.rng.random()
        if kind < 0.1:
            known = replace(known, ttl_s=BRIEF_TTL_S)
        elif kind < 0.2:
            known = replace(known, ttl_s=LONG_TTL_S)
        elif kind < 0.3:
            known = replace(known, expires_at=FAR_INSTANT)
        body, content = self._payload(known.is_json) if self.rng.random() < 0.5 else (b"", None)
        if content is None:
            content = () if known.is_json else b""
        known = replace(known, content=content)
        if known.ttl_s is not None:
            headers["Stream-TTL"] = str(known.ttl_s)
        if known.expires_at is not None:
            headers["Stream-Expires-At"] = known.expires_at
        if known.closed:
            headers["Stream-Closed"] = "true"
        return Step("PUT", name, headers, body, {name: known}, (201,), (200,))

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
        fork = Known(
            source.content_type,
            source.content[:point],
            tuple(mark for mark in source.marks if mark[1] <= point),
            ttl_s=source.ttl_s,
            expires_at=source.expires_at,
            source=source_name,
        )
        return Step("PUT", name, headers, b"", {name: fork}, (201,), (200,))

    def _remove(self) -> Step:
        name = self.rng.choice(list(self._usable()))
        after = self._world.removal_of(name)
        again = (410,) if after[name] is not None else (404,)
        return Step("DELETE", name, {}, b"", after, (204,), again)

    # -- append, close ---------------------------------------------------------------------------------------

    def _append(self, name: str) -> Step:
        known = self._world.streams[name]
        body, content = self._payload(known.is_json)
        headers = {"Content-Type": known.content_type}
        after = replace(known, content=known.content + content)  # type: ignore[operator]
        if self.rng.random() < 0.2:
            after = replace(after, stream_seq=f"{int(known.stream_seq or 0) + 1:09d}")
            headers["Stream-Seq"] = str(after.stream_seq)
        if self.rng.random() < 0.05:
            after = replace(after, closed=True, batch=None)
            headers["Stream-Closed"] = "true"
        if self.rng.random() < 0.6:
            return self._by_producer(name, after, headers, body)
        return Step("POST", name, headers, body, {name: after}, (204,))

    def _by_producer(self, name: str, after: Known, headers: dict[str, str], body: bytes) -> Step:
        producer = self.rng.choice(("one", "two"))
        epoch, seq = after.producers.get(producer, (0, -1))
        epoch, seq = (epoch + 1, 0) if seq >= 0 and self.rng.random() < 0.05 else (epoch, seq + 1)
        headers |= {"Producer-Id": producer, "Producer-Epoch": str(epoch), "Producer-Seq": str(seq)}
        after = replace(
            after, producers={**after.producers, producer: (epoch, seq)}, batch=Batch(headers, body)
        )
        return Step("POST", name, headers, body, {name: after}, (200,), (204,))

    def _close(self, name: str) -> Step:
        known = self._world.streams[name]
        after = replace(known, closed=True, batch=None)
        return Step("POST", name, {"Stream-Closed": "true"}, b"", {name: after}, (204,), (204,))

    # -- payload ---------------------------------------------------------------------------------------------

    def _payload(self, is_json: bool) -> tuple[bytes, bytes | tuple[object, ...]]:
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
