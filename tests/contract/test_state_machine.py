"""Random lives of a few streams on every storage, held step by step against the model.

STATE_MACHINE_EXAMPLES sets how many lives each storage leads in `make test-long`; a failure prints how to repeat it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from durable_streams.protocol.errors import InvalidOffset, ProtocolError
from durable_streams.streams.batch import Limits
from tests.contract.driving import KINDS, Kind, Streams
from tests.model import INSIDE, JSON, Content, Model, Producer, Refused, Stream

FEW = 10
MANY = int(os.environ.get("STATE_MACHINE_EXAMPLES", "100"))
STEPS = 40

ALL_NAMES = ["a", "b/c", "d", "e", "\N{EURO SIGN}"]
NAMES = st.sampled_from(ALL_NAMES)
LIKELIHOODS = st.integers(0, 9)
CONTENT_TYPES = st.sampled_from(["text/plain", "text/plain", JSON])
BODIES = st.one_of(st.binary(max_size=12), st.integers(13, 5000).map(lambda size: b"x" * size))
TTLS = st.one_of(st.none(), st.none(), st.integers(1, 60))
SEQS = st.one_of(st.none(), st.none(), st.sampled_from("abcde"))
PRODUCERS = st.one_of(st.none(), st.tuples(st.sampled_from("pq"), st.integers(0, 2), st.integers(0, 3)))


def as_sent(content_type: str, body: bytes) -> tuple[bytes, Content]:
    """A body of that type made of random bytes, and what it adds to the stream; JSON messages as they are stored."""
    if content_type != JSON:
        return body, body
    texts = [b"%d" % byte for byte in body[:4]] + [b'"%b"' % (b"x" * len(body[4:]))] * (len(body) > 4)
    sent = (b"[ " + b" , ".join(texts) + b"\n]") if texts else b""
    return sent, tuple(text + b"\n" for text in texts)


def stored(stream: Stream) -> bytes:
    return b"".join(stream.content) if isinstance(stream.content, tuple) else stream.content


def ends(stream: Stream) -> list[int]:
    """The stored positions at which a read may begin."""
    if isinstance(stream.content, tuple):
        return [0, *accumulate(map(len, stream.content))]
    return list(range(len(stream.content) + 1))


def position_in(stream: Stream, stored_position: int) -> int:
    """In the model's count: messages of a JSON stream, else bytes."""
    possible = ends(stream)
    if stored_position > possible[-1]:
        return len(possible)
    return possible.index(stored_position) if stored_position in possible else INSIDE


class Lives(RuleBasedStateMachine):
    """``kind`` is set by the test."""

    kind: Kind

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="streams"))
        self.real = Streams(self.kind, self.folder / "data", Limits())
        self.model = Model(self.real.clock.now)
        self.create("a", "text/plain", b"first", None, False, False)
        self.create("b/c", JSON, b"first", None, False, False)

    def one_that(self, is_there: bool, likely: int, name: str) -> str:
        """``name``; or, more often than not, one that is there, or is not."""
        names = [other for other in ALL_NAMES if (other in self.model.streams) is is_there]
        return names[likely % len(names)] if names and likely > 1 else name

    def teardown(self) -> None:
        if not hasattr(self, "real"):
            return
        try:
            for name in self.model.streams:
                self.look_at_all_of(name)
        finally:
            self.real.close()
            shutil.rmtree(self.folder)

    def both(self, real: Callable[[], Any], model: Callable[[], Any]) -> tuple[Any, Any] | None:
        """What both answer, or None when both refuse for the same reason."""
        try:
            expected = model()
        except Refused as refused:
            expected_error = refused.kind
        else:
            return real(), expected
        with pytest.raises(ProtocolError) as error:
            real()
        assert type(error.value).__name__ == expected_error
        return None

    # -- steps -------------------------------------------------------------------------------------------------

    @rule(
        name=NAMES,
        content_type=CONTENT_TYPES,
        body=BODIES,
        ttl=TTLS,
        deadline=st.booleans(),
        closed=st.integers(0, 5).map(lambda number: number == 5),
    )
    def create(
        self, name: str, content_type: str, body: bytes, ttl: int | None, deadline: bool, closed: bool
    ) -> None:
        sent, content = as_sent(content_type, body)
        expires_at = self.model.now + ttl if ttl is not None and deadline else None
        window = None if deadline else ttl
        answers = self.both(
            lambda: self.real.create(
                name, sent, content_type, ttl=window, expires_at=expires_at, closed=closed
            ),
            lambda: self.model.create(name, content_type, content, window, expires_at, closed),
        )
        if answers:
            assert answers[0].existed is answers[1]

    @rule(
        name=NAMES,
        content_type=CONTENT_TYPES,
        body=BODIES,
        close=st.integers(0, 7).map(lambda number: number == 7),
        seq=SEQS,
        producer=PRODUCERS,
        fits=LIKELIHOODS,
    )
    def append(
        self,
        name: str,
        content_type: str,
        body: bytes,
        close: bool,
        seq: str | None,
        producer: Producer | None,
        fits: int,
    ) -> None:
        name = self.one_that(True, fits, name)
        known = self.model.streams.get(name)
        if known and fits:
            content_type = known.content_type
        if producer and known and fits > 4:
            epoch, last = known.producers.get(producer[0], (producer[1], -1))
            producer = (producer[0], epoch, last + 1)
        sent, content = as_sent(content_type, body)
        answers = self.both(
            lambda: self.real.append(
                name, sent, content_type=content_type, close=close, seq=seq, producer=producer
            ),
            lambda: self.model.append(name, content_type, content, close, seq, producer),
        )
        if answers:
            outcome, duplicate = answers
            stream = self.model.streams[name]
            assert outcome.duplicate is duplicate
            assert (outcome.tail, outcome.closed) == (len(stored(stream)), stream.closed)
            if producer:
                assert (outcome.producer.epoch, outcome.producer.seq) == stream.producers[producer[0]]

    @rule(
        name=NAMES,
        source=NAMES,
        body=BODIES,
        where=st.one_of(st.none(), st.integers(0, 30)),
        at_an_end=st.booleans(),
        sub_offset=st.sampled_from([0, 0, 0, 1, 2, 7]),
        ttl=TTLS,
        fits=LIKELIHOODS,
    )
    def fork(
        self,
        name: str,
        source: str,
        body: bytes,
        where: int | None,
        at_an_end: bool,
        sub_offset: int,
        ttl: int | None,
        fits: int,
    ) -> None:
        name, source = self.one_that(False, fits, name), self.one_that(True, 9 - fits, source)
        known = self.model.streams.get(source)
        sent, content = as_sent(known.content_type if known else "text/plain", body)
        anchor = where
        if known and where is not None:
            if at_an_end:
                where = ends(known)[where % len(ends(known))]
            anchor = position_in(known, where)
        answers = self.both(
            lambda: self.real.fork(name, source, sent, position=where, sub_offset=sub_offset, ttl=ttl),
            lambda: self.model.fork(name, source, content, anchor, sub_offset, ttl),
        )
        if answers:
            assert answers[0].existed is answers[1]
            assert answers[0].state.tail == len(stored(self.model.streams[name]))

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        self.both(lambda: self.real.remove(name), lambda: self.model.remove(name))

    @rule(name=NAMES)
    def touch(self, name: str) -> None:
        self.both(lambda: self.real.store.touch(self.real.find(name)), lambda: self.model.touch(name))

    @rule(seconds=st.integers(1, 15))
    def let_time_pass(self, seconds: int) -> None:
        now = self.model.now + seconds
        if self.real.storage.shared:
            now = self._past_doubt(now)
        self.model.now = self.real.clock.now = now

    def _past_doubt(self, now: float) -> float:
        """The first moment from ``now`` on at which no window is over for those alone who know its newest touch."""
        windows = [(one.used_at, one.ttl) for one in self.model.streams.values() if one.ttl is not None]
        for used_at, ttl in sorted(windows, key=sum):
            if used_at + ttl <= now < used_at + self.real.window(ttl):
                return self._past_doubt(used_at + self.real.window(ttl))
        return now

    @rule()
    def sweep(self) -> None:
        self.model.sweep()
        self.real.sweep()

    @precondition(lambda self: self.kind.is_durable)
    @rule()
    def reopen(self) -> None:
        self.real.reopen()

    @rule(
        name=NAMES,
        start=st.integers(0, 60),
        at_an_end=st.booleans(),
        page_bytes=st.integers(1, 3000),
        fits=LIKELIHOODS,
    )
    def page_through(self, name: str, start: int, at_an_end: bool, page_bytes: int, fits: int) -> None:
        name = self.one_that(True, fits, name)
        answers = self.both(lambda: self.real.find(name), lambda: self.model.find(name))
        if not answers:
            return
        stream = answers[1]
        possible, content = ends(stream), stored(stream)
        if at_an_end:
            start = possible[start % len(possible)]
        if start not in possible:
            with pytest.raises(InvalidOffset):
                list(self.real.pages(name, start, page_bytes))
            return
        pages = list(self.real.pages(name, start, page_bytes))
        assert b"".join(page.data for page in pages) == content[start:]
        for page in pages:
            if stream.content_type == JSON:
                assert page.stop in possible
                assert len(page.data) <= page_bytes or page.data.count(b"\n") == 1
            else:
                assert len(page.data) <= page_bytes

    # -- always ------------------------------------------------------------------------------------------------

    @invariant()
    def every_stream_is_as_the_model_says(self) -> None:
        for name in ALL_NAMES:
            answers = self.both(lambda: self.real.find(name), lambda: self.model.find(name))  # noqa: B023
            if answers:
                state, stream = answers
                assert (state.tail, state.closed) == (len(stored(stream)), stream.closed)
                assert state.config.content_type == stream.content_type
                assert len(state.forks) == len(list(self.model.forks_of(name)))

    @invariant()
    def nothing_is_kept_of_what_has_gone(self) -> None:
        assert self.real.storage.names("", "", 100) == sorted(self.model.streams)

    def look_at_all_of(self, name: str) -> None:
        answers = self.both(lambda: self.real.find(name), lambda: self.model.find(name))
        if answers:
            assert self.real.read(name) == stored(answers[1])


@pytest.mark.parametrize("kind", [kind.param() for kind in KINDS])
@pytest.mark.parametrize(
    "examples", [pytest.param(FEW, id="few"), pytest.param(MANY, id="many", marks=pytest.mark.long)]
)
def test_random_lives_go_as_the_model_says(kind: Kind, examples: int) -> None:
    machine = type("LivesOn" + kind.name.title().replace("-", ""), (Lives,), {"kind": kind})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
