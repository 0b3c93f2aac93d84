"""The simulation of many workers: what must be so whatever the costs, and how well it says what was measured."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks.scale.prediction import held_against, machine, write_costs
from benchmarks.scale.publish import MEASURED, PAGE, PICTURE, published
from benchmarks.scale.simulation import Costs, Shape, Simulation

COSTS = Costs(request=100.0, statement=50.0, again=25.0, database_statement=150.0, database_stream=25.0)
SHAPE = Shape(4, clients=16, streams=2000)
SECONDS = 0.2
ERROR_MAX = 0.35
"""How far a prediction may be from what was measured, on a machine that did other things too."""


def test_the_same_run_comes_twice() -> None:
    assert Simulation(COSTS, SHAPE).run(SECONDS) == Simulation(COSTS, SHAPE).run(SECONDS)


def test_a_free_database_leaves_the_workers_as_the_limit() -> None:
    costs = replace(COSTS, database_statement=0.0, database_stream=0.0)
    result = Simulation(costs, replace(SHAPE, affinity=True, clients=128)).run(SECONDS)
    assert result.rate == pytest.approx(SHAPE.workers * 1e6 / result.worker_us, rel=0.05)
    assert result.worker_us == pytest.approx(costs.request + costs.statement / result.batch, rel=0.05)


def test_free_workers_leave_the_database_as_the_limit() -> None:
    costs = replace(COSTS, request=0.1, statement=0.1, again=0.1)
    result = Simulation(
        costs, replace(SHAPE, affinity=True, clients=64, shards=8, flush=1.0, round_trip=1.0)
    ).run(SECONDS)
    assert result.rate == pytest.approx(SHAPE.database_cores * 1e6 / result.database_us, rel=0.1)


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_without_affinity_whoever_wrote_last_is_another_in_most_cases(workers: int) -> None:
    result = Simulation(COSTS, replace(SHAPE, workers=workers)).run(SECONDS)
    assert result.lost == pytest.approx((workers - 1) / workers, abs=0.08)
    assert Simulation(COSTS, replace(SHAPE, workers=workers, affinity=True)).run(SECONDS).lost == 0


def test_readers_lose_nothing_and_wait_for_no_flush() -> None:
    reads = Simulation(COSTS, replace(SHAPE, writes=False, think=5000.0)).run(SECONDS)
    writes = Simulation(COSTS, replace(SHAPE, think=5000.0)).run(SECONDS)
    assert reads.lost == 0
    assert reads.p50_ms < writes.p50_ms


def test_one_stream_of_all_workers_is_committed_by_one_at_a_time() -> None:
    shape = replace(SHAPE, streams=1, clients=4, shards=1)
    result = Simulation(COSTS, shape).run(SECONDS)
    assert result.rate < 1e6 / shape.flush * shape.clients * 1.01


def test_two_and_four_workers_cost_what_was_predicted_from_one() -> None:
    rows = json.loads(MEASURED.read_text())["rows"]
    for workers, part, predicted, measured in held_against(rows, write_costs(rows)):
        assert predicted == pytest.approx(measured, rel=ERROR_MAX), (workers, part)


def test_the_machine_of_the_measurement_has_one_core_for_all_workers() -> None:
    result = Simulation(COSTS, machine(4)).run(SECONDS)
    assert result.rate * result.worker_us <= 1.01e6


@pytest.mark.long
def test_the_page_and_its_picture_are_those_of_the_measured_costs() -> None:
    page = PAGE.read_text()
    assert published(json.loads(MEASURED.read_text()), page) == (page, PICTURE.read_text())
