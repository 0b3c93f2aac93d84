"""What the server should reach against its peers, and whether the figures say that it does.

The goals are ratios of one run on one core. A goal whose figures are missing is shown as not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.peers import plan
from benchmarks.peers.table import Rounds, middle, number, ratio

Results = Mapping[str, Mapping[str, Rounds]]
Measure = Callable[[Results], float]
Goal = tuple[str, str, float, bool, Measure]
"""What, unit, bound, whether more is better, and how it is got from the results."""


def rates(row: str, ours: str, peer: str) -> Measure:
    return lambda results: ratio(results[ours][row], results[peer][row], "rate")


def delays(row: str, ours: str, peer: str) -> Measure:
    return lambda results: ratio(results[ours][row], results[peer][row], "p99_ms")


def figure(row: str, ours: str, key: str) -> Measure:
    return lambda results: middle(results[ours][row], key)


def against_fastest_rust(row: str, ours: str) -> Measure:
    return lambda results: min(
        rates(row, ours, peer)(results) for peer in ("rust file-durable", "rust acid") if row in results[peer]
    )


def size_cost(ours: str) -> Measure:
    large, small = plan.append_at("1 GB"), plan.append_at("1 KB")
    return lambda results: ratio(results[ours][large], results[ours][small], "cpu_us")


def goals() -> Sequence[Goal]:
    found: list[Goal] = [
        (f"memory: {row}", "x Node memory", 1.5, True, rates(row, "ours memory", "node memory"))
        for row in (plan.POST_32, plan.POST_256, plan.GET_32, plan.GET_256)
    ]
    for mode in ("ours file-durable", "ours acid"):
        short = mode.removeprefix("ours ")
        found += [
            (f"{short}: {plan.POST_32}", "x Node file", 10, True, rates(plan.POST_32, mode, "node file")),
            (f"{short}: {plan.POST_32}", "x Rust", 1, True, against_fastest_rust(plan.POST_32, mode)),
            (
                f"{short}: {plan.POST_32_SLOW}",
                "x Rust",
                3,
                True,
                against_fastest_rust(plan.POST_32_SLOW, mode),
            ),
        ]
    memory = "ours memory"
    found += [
        ("p99 of " + plan.POST_32, "x Node", 1, False, delays(plan.POST_32, memory, "node memory")),
        (plan.SSE_SATURATED, "x Node", 10, True, rates(plan.SSE_SATURATED, memory, "node memory")),
        (plan.SSE_SATURATED, "x Rust", 2, True, rates(plan.SSE_SATURATED, memory, "rust memory")),
        (plan.SSE_STEADY + ", CPU a delivery", "us", 15, False, figure(plan.SSE_STEADY, memory, "cpu_us")),
        (plan.CATCH_UP_BYTES, "MB/s", 1000, True, figure(plan.CATCH_UP_BYTES, memory, "rate")),
        (plan.CATCH_UP_BYTES, "x Rust", 1, True, rates(plan.CATCH_UP_BYTES, memory, "rust memory")),
        (plan.IDLE_SSE, "KB", 20, False, figure(plan.IDLE_SSE, memory, "KB a connection")),
    ]
    for mode in ("memory", "file-durable", "acid"):
        what = f"{mode}: CPU of an append at 1 GB / at 1 KB"
        found.append((what, "x", 1.2, False, size_cost(f"ours {mode}")))
    return found


def render(report: Mapping[str, Any]) -> str:
    """A table in Markdown: goal, figure, verdict."""
    lines = ["| goal | bound | measured | |", "| --- | ---: | ---: | --- |"]
    for what, unit, bound, more, measure in goals():
        sign = "at least" if more else "under"
        try:
            value = measure(report["results"])
        except (KeyError, ValueError):
            lines.append(f"| {what} | {sign} {bound:g} {unit} | | not measured |")
            continue
        met = value >= bound if more else value < bound
        lines.append(
            f"| {what} | {sign} {bound:g} {unit} | {number(value)} | {'reached' if met else '**missed**'} |"
        )
    return "\n".join(lines)
