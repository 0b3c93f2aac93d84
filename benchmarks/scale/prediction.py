"""What the simulation is fed with, and what it says: costs from a run of `make bench-postgres`, and the curve.

The costs that cannot be read off the measurement are set so that one worker costs what was measured. Two and four
workers are then a prediction, which is held against what was measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.scale.reach import served_by
from benchmarks.scale.serving import CONNECTIONS, STREAMS
from benchmarks.scale.simulation import Costs, Result, Shape, Simulation

Report = Mapping[str, Mapping[str, float]]

WRITERS: Final = 32
STEPS: Final = 16
SECONDS: Final = 0.4
WORKERS: Final = (1, 2, 4, 8, 16, 32, 64)
DATABASES: Final = (1, 2, 4, 8)
HALF_LOAD: Final = 0.5


@dataclass(frozen=True)
class Point:
    """Requests a second at the end, latency at half of that, and the part that was decided more than once."""

    workers: int
    databases: int
    affinity: bool
    rate: float
    p50_ms: float
    p99_ms: float
    lost: float


def machine(workers: int) -> Shape:
    """The machine of the measurement: all workers on one core, the database on the other, a Unix socket."""
    return Shape(
        workers,
        clients=max(1, CONNECTIONS // workers),
        streams=STREAMS,
        worker_cores=1,
        database_cores=1,
        round_trip=50.0,
    )


def write_costs(report: Report) -> Costs:
    """Of small POSTs. Raises KeyError when the report lacks a row."""
    lone, many = report["append, 1 writer"], report["append, 32 writers"]
    one = report[f"POST, {served_by(1)}"]
    # A lone append pays its statement alone, and 32 of them share one.
    shared = WRITERS / (WRITERS - 1)
    statement = (lone["server_us"] - many["server_us"]) * shared
    again = max(1.0, lone["server_us"] - statement)
    costs = Costs(0.0, statement, again, lone["database_us"], 0.0)
    for _ in range(2):
        # Each depends a little on the other, through the sizes of the batches.
        costs = _fit_worker(costs, one["server_us"])
        costs = _fit_database(costs, one["database_us"])
    return costs


def _fit_worker(costs: Costs, target_us: float) -> Costs:
    def trial(request: float) -> Costs:
        return replace(costs, request=request)

    return trial(
        _solve(lambda value: simulated(trial(value), machine(1)).worker_us, target_us, 2 * target_us)
    )


def _fit_database(costs: Costs, target_us: float) -> Costs:
    """A lone append pays for a statement and for one stream: how much for which?"""
    lone = costs.database_statement + costs.database_stream

    def trial(stream: float) -> Costs:
        return replace(costs, database_statement=lone - stream, database_stream=stream)

    return trial(_solve(lambda value: simulated(trial(value), machine(1)).database_us, target_us, lone))


def simulated(costs: Costs, shape: Shape) -> Result:
    """One run."""
    return Simulation(costs, shape).run(SECONDS)


def held_against(report: Report, costs: Costs) -> list[tuple[int, str, float, float]]:
    """Workers, what, predicted and measured CPU us a request: one worker was fitted, the others were not."""
    found: list[tuple[int, str, float, float]] = []
    for workers in (1, 2, 4):
        result = simulated(costs, machine(workers))
        measured = report[f"POST, {served_by(workers)}"]
        found.append((workers, "workers", result.worker_us, measured["server_us"]))
        found.append((workers, "database", result.database_us, measured["database_us"]))
    return found


def capacity(costs: Costs, workers: int, affinity: bool) -> tuple[Result, Result]:
    """One database with so many workers: at its end, and at half of that load."""
    shape = Shape(workers, affinity=affinity)
    full = simulated(costs, shape)
    cycle = shape.workers * shape.clients / (full.rate * HALF_LOAD) * 1e6
    return full, simulated(costs, replace(shape, think=max(1.0, cycle - full.p50_ms * HALF_LOAD * 1e3)))


def _solve(measure: Callable[[float], float], target: float, most: float) -> float:
    """The value below `most` at which `measure`, which grows with it, comes closest to `target`."""
    low, high = 0.0, most
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if measure(middle) < target else (low, middle)
    return (low + high) / 2


def curve(costs: Costs) -> list[Point]:
    """What any number of workers and databases does.

    Streams are spread over the databases by the first segment of their names, and nothing joins two of them, so each
    does what it would do alone with its share of the workers.
    """
    alone = {
        (workers, affinity): capacity(costs, workers, affinity)
        for workers in WORKERS
        for affinity in (False, True)
    }
    points: list[Point] = []
    for affinity, databases, workers in itertools.product((False, True), DATABASES, WORKERS):
        if workers >= databases:
            full, half = alone[workers // databases, affinity]
            points.append(
                Point(
                    workers, databases, affinity, full.rate * databases, half.p50_ms, half.p99_ms, full.lost
                )
            )
    return points
