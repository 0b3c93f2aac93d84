"""Every request of the table by the worker and by gunicorn's own, whole and cut in two at every byte."""

from __future__ import annotations

import json
import os
import random
import time
from itertools import pairwise

import pytest
from gunicorn.http.parser import RequestParser

from durable_streams.worker.strict_requests import StrictRequest
from tests.worker.in_process import Answer, answers_in, converse, stock_worker, stream_worker
from tests.worker.request_samples import SAMPLES, Sample, get, post
from tests.worker.test_request_heads import SEEDS, mutated

ROUNDS = 2000
ORDINARY = [get(b"/x"), post(b"Content-Length: 3\r\n", b"abc")]
LONG = 400
"""Beyond this many bytes a sample is cut at some places only: all that matters lies at its ends."""

by_name = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)


def heads_of(sample: Sample) -> tuple[int, ...]:
    return (0,) if sample.sent.startswith(b"HEAD") else ()


def outcome(seen: bytes, sample: Sample) -> list[tuple[int, bytes]]:
    """Statuses and bodies. The page of a refusal names whatever was found first, so it is left out."""
    return [
        (answer.status, answer.body if answer.status < 400 else b"")
        for answer in answers_in(seen, heads_of(sample))
        if answer.status != 100
    ]


@by_name
def test_the_worker_answers_as_gunicorn_does_unless_the_table_says_why_not(sample: Sample) -> None:
    ours = answers_in(converse(stream_worker(), sample.sent), heads_of(sample))
    theirs = answers_in(converse(stock_worker(), sample.sent), heads_of(sample))
    assert tuple(answer.status for answer in ours) == sample.statuses
    assert tuple(answer.status for answer in theirs) == (sample.by_gunicorn or sample.statuses)
    if sample.by_gunicorn is None:
        assert [(answer.body, connection(answer)) for answer in ours] == [
            (answer.body, connection(answer)) for answer in theirs
        ]


@by_name
def test_the_same_holds_behind_a_unix_socket(sample: Sample) -> None:
    ours = converse(stream_worker(), sample.sent, unix=True)
    theirs = converse(stock_worker(), sample.sent, unix=True)
    assert [answer.status for answer in answers_in(ours, heads_of(sample))] == list(sample.statuses)
    if sample.by_gunicorn is None:
        assert outcome(ours, sample) == outcome(theirs, sample)


@pytest.mark.long
@by_name
def test_it_does_not_matter_where_a_request_is_cut(sample: Sample) -> None:
    worker = stream_worker()
    whole = outcome(converse(worker, sample.sent), sample)
    for cut in cuts(sample.sent):
        seen = converse(worker, sample.sent[:cut], sample.sent[cut:])
        assert outcome(seen, sample) == whole, f"cut behind {sample.sent[:cut]!r}"


@pytest.mark.parametrize(
    "sample", [sample for sample in SAMPLES if len(sample.sent) <= LONG], ids=lambda sample: sample.name
)
def test_it_does_not_matter_if_every_byte_comes_alone(sample: Sample) -> None:
    worker = stream_worker()
    whole = outcome(converse(worker, sample.sent), sample)
    seen = converse(worker, *(sample.sent[at : at + 1] for at in range(len(sample.sent))))
    assert outcome(seen, sample) == whole


def test_of_requests_sent_ahead_changed_and_cut_anywhere_none_is_served_that_gunicorn_would_not_serve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # When a connection ends is decided by the table; see request_samples.
    monkeypatch.setattr(RequestParser, "mesg_class", StrictRequest)
    seed = int(os.environ.get("FUZZ_SEED", time.time_ns() % 1_000_000_007))
    print(f"FUZZ_SEED={seed}")
    chance = random.Random(seed)
    ours, theirs = stream_worker(), stock_worker()
    served = 0
    for _ in range(ROUNDS):
        sent = b"".join(any_request(chance) for _ in range(chance.randint(1, 3)))
        places = sorted({0, len(sent), *(chance.randrange(len(sent)) for _ in range(chance.randint(0, 4)))})
        pieces = [sent[start:stop] for start, stop in pairwise(places)]
        by_us, by_them = served_of(converse(ours, *pieces)), served_of(converse(theirs, sent))
        # Stock gunicorn gives the application a body that was cut off as if it were whole.
        if by_them and has_lost_some_of_its_body(by_them[-1]) and len(by_us) < len(by_them):
            by_them.pop()
        # What is refused earlier is refused by the table; see request_samples.
        assert by_us == by_them[: len(by_us)], pieces
        served += len(by_us)
    assert served > ROUNDS / 2


def any_request(chance: random.Random) -> bytes:
    """Half of them as they should be, so that there is something to get out of step with."""
    if chance.random() < 0.5:
        return chance.choice(ORDINARY)
    while (request := mutated(chance.choice(SEEDS), chance)).count(b"HEAD") or not request:
        # Where an answer to HEAD ends cannot be told without knowing that it is one.
        pass
    return request


def served_of(seen: bytes) -> list[bytes]:
    """What the application has been given, request by request."""
    return [answer.body for answer in answers_in(seen) if answer.status == 200]


def has_lost_some_of_its_body(given: bytes) -> bool:
    environ, body = json.loads(given)
    return len(body) < int(environ.get("CONTENT_LENGTH") or 0)


def connection(answer: Answer) -> str | None:
    return answer.fields.get("connection")


def cuts(sent: bytes) -> list[int]:
    if len(sent) <= LONG:
        return list(range(1, len(sent)))
    return [*range(1, 100), *range(len(sent) - 50, len(sent))]
