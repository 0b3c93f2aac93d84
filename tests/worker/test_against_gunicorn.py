"""Every request of the table by the worker and by gunicorn's own, whole and cut in two at every byte."""

from __future__ import annotations

import pytest

from tests.worker.in_process import Answer, answers_in, converse, stock_worker, stream_worker
from tests.worker.request_samples import SAMPLES, Sample

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


def connection(answer: Answer) -> str | None:
    return answer.fields.get("connection")


def cuts(sent: bytes) -> list[int]:
    if len(sent) <= LONG:
        return list(range(1, len(sent)))
    return [*range(1, 100), *range(len(sent) - 50, len(sent))]
