"""`make bench-storage`: every storage mode measured in process, printed as tables in Markdown.

Which trials are run, and what they should reach, is here; what a trial does is in the modules beside this one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.storage.machine import describe
from benchmarks.storage.modes import MODES, ON_DISK
from benchmarks.storage.reading import MEBIBYTE

WRITERS: Final = (1, 32, 256)
STREAMS: Final = (1, 256)
DELAYS_MS: Final = (0.0, 2.0)
IDLE_STREAMS: Final = 100_000
LARGE_BYTES: Final = 256 * MEBIBYTE
READ_BYTES: Final = 1024 * MEBIBYTE
PRODUCERS: Final = (1, 100_000)
PRODUCER_APPENDS: Final = 20_000
PRODUCER_ROUNDS: Final = 3
PRODUCER_RATIO_MAX: Final = 1.5
STALL_P99_MS_MAX: Final = 15.0
GROUPED_RATIO_MIN: Final = 10.0
ACID_APPENDS_PER_S_MIN: Final = 15_000

Write = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    with tempfile.TemporaryDirectory(prefix=".bench-storage-", dir=options.folder) as name:
        folder = Path(name)
        print("\n".join(describe(folder)), "\n", sep="", flush=True)
        writes = _writing(options, folder)
        _reading(options, folder)
        _opening(options, folder)
        remembering = _remembering(options, folder)
        _verdicts(writes, remembering)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storage", description=__doc__)
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES, help="only these modes")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each load of writers lasts")
    parser.add_argument("--folder", default=".", help="where the data goes: on the disk that is meant")
    return parser.parse_args(arguments)


def in_own_process(name: str, *arguments: Any) -> dict[str, Any]:
    """What the trial `name` returns. Raises RuntimeError with what it wrote when it failed."""
    command = [sys.executable, "-m", "benchmarks.storage.trial", json.dumps([name, arguments])]
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode:
        raise RuntimeError(f"{name} {arguments} failed:\n{finished.stderr}")
    result: dict[str, Any] = json.loads(finished.stdout or "{}")
    return result


@contextmanager
def _data_dir(folder: Path) -> Iterator[str]:
    """A directory for one storage, removed afterwards."""
    path = folder / "data"
    try:
        yield str(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _row(*cells: object) -> None:
    print("|", " | ".join(str(cell) for cell in cells), "|", flush=True)


def _head(*cells: str) -> None:
    _row(*cells)
    _row(*("---" for _ in cells))


def _writing(options: argparse.Namespace, folder: Path) -> list[Write]:
    print("Appends of 200 bytes by idempotent producers, each writer waiting for its answer:\n")
    _head(
        "mode", "sync", "writers", "streams", "appends/s", "p50 ms", "p99 ms", "bytes/append", "stall p99 ms"
    )
    writes: list[Write] = []
    for mode in options.modes:
        for delay_ms in DELAYS_MS if mode in ON_DISK else DELAYS_MS[:1]:
            for streams in STREAMS:
                for writers in WRITERS:
                    writes.append(_write(options, folder, mode, delay_ms, streams, writers))
    return writes


def _write(
    options: argparse.Namespace, folder: Path, mode: str, delay_ms: float, streams: int, writers: int
) -> Write:
    with _data_dir(folder) as data_dir:
        found = in_own_process("measure_writing", mode, data_dir, writers, streams, delay_ms, options.seconds)
    sync = "-" if mode not in ON_DISK else f"+{delay_ms:.0f} ms" if delay_ms else "real"
    _row(
        mode,
        sync,
        writers,
        streams,
        f"{found['appends_per_s']:,.0f}",
        f"{found['p50_ms']:.2f}",
        f"{found['p99_ms']:.2f}",
        f"{found['bytes_per_append']:,.0f}" if mode in ON_DISK else "-",
        f"{found['stall_p99_ms']:.1f}",
    )
    return {"mode": mode, "delay_ms": delay_ms, "streams": streams, "writers": writers, **found}


def _reading(options: argparse.Namespace, folder: Path) -> None:
    print("\nCatch-up reads of one stream of 256 MiB in pages of 1 MiB, 1 GiB in all:\n")
    _head("mode", "cold MiB/s", "warm MiB/s", "kept in memory, MiB")
    for mode in options.modes:
        with _data_dir(folder) as data_dir:
            if mode in ON_DISK:
                in_own_process("write_large", mode, data_dir, LARGE_BYTES)
            found = in_own_process("measure_reading", mode, data_dir, LARGE_BYTES, READ_BYTES)
        cold = f"{found['cold_mib_per_s']:,.0f}" if "cold_mib_per_s" in found else "-"
        _row(mode, cold, f"{found['warm_mib_per_s']:,.0f}", f"{found['kept_mib']:.1f}")


def _opening(options: argparse.Namespace, folder: Path) -> None:
    print(f"\nOpening with {IDLE_STREAMS:,} idle streams, and finding the first:\n")
    _head("mode", "after a stop, s", "after kill -9, s", "memory a stream, bytes")
    for mode in options.modes:
        seconds: list[str] = []
        for killed in (False, True):
            with _data_dir(folder) as data_dir:
                if mode in ON_DISK:
                    in_own_process("create_many", mode, data_dir, IDLE_STREAMS, killed)
                found = in_own_process("measure_opening", mode, data_dir, IDLE_STREAMS)
            seconds.append(f"{found['open_s']:.2f}" if mode in ON_DISK else "-")
        _row(mode, *seconds, f"{found['bytes_per_stream']:,.0f}")


def _remembering(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    print(
        f"\nAppends to a stream that knows {PRODUCERS[0]} and {PRODUCERS[1]:,} producers, who write in turn:\n"
    )
    _head(
        "mode",
        "writers",
        f"CPU us with {PRODUCERS[0]}",
        f"CPU us with {PRODUCERS[1]:,}",
        "times",
        "bytes/append",
    )
    ratios: dict[str, float] = {}
    for mode in options.modes:
        for writers in (1, 32):
            few, many = _remember(folder, mode, writers)
            ratio = many["cpu_us"] / few["cpu_us"]
            ratios[f"{mode}, {writers} writers"] = ratio
            _row(
                mode,
                writers,
                f"{few['cpu_us']:.1f}",
                f"{many['cpu_us']:.1f}",
                f"{ratio:.2f}",
                f"{few['bytes_per_append']:,.0f}, {many['bytes_per_append']:,.0f}"
                if mode in ON_DISK
                else "-",
            )
    return ratios


def _remember(folder: Path, mode: str, writers: int) -> list[dict[str, Any]]:
    """The cheapest of some interleaved rounds, with few producers and with many."""
    rounds: list[list[dict[str, Any]]] = [[] for _ in PRODUCERS]
    for _ in range(PRODUCER_ROUNDS):
        for producers, found in zip(PRODUCERS, rounds, strict=True):
            with _data_dir(folder) as data_dir:
                found.append(
                    in_own_process("measure_producers", mode, data_dir, producers, writers, PRODUCER_APPENDS)
                )
    return [min(found, key=lambda each: each["cpu_us"]) for found in rounds]


def _verdicts(writes: list[Write], remembering: dict[str, float]) -> None:
    print("\nWhat was to be reached:\n")
    by_load = {(each["mode"], each["delay_ms"], each["streams"], each["writers"]): each for each in writes}
    for mode in ("file-durable", "acid"):
        if (mode, 2.0, 1, 32) in by_load:
            alone, together = (by_load[mode, 2.0, 1, writers]["appends_per_s"] for writers in (1, 32))
            text = f"{mode}, 2 ms more a sync: 32 writers on one stream make {together / alone:.1f} times"
            _verdict(f"{text} the appends of one", together / alone >= GROUPED_RATIO_MIN)
    if ("acid", 0.0, 256, 256) in by_load:
        rate = by_load["acid", 0.0, 256, 256]["appends_per_s"]
        _verdict(f"acid, 256 writers on 256 streams: {rate:,.0f} appends/s", rate >= ACID_APPENDS_PER_S_MIN)
    load, ratio = max(remembering.items(), key=lambda each: each[1])
    text = f"100,000 producers in place of one make an append {ratio:.2f} times as dear at most ({load})"
    _verdict(text, ratio <= PRODUCER_RATIO_MAX)
    worst = max(writes, key=lambda each: each["stall_p99_ms"])
    load = f"{worst['mode']}, {worst['writers']} writers, {worst['streams']} streams"
    stall_ms = worst["stall_p99_ms"]
    _verdict(f"the longest loop stall p99: {stall_ms:.1f} ms ({load})", stall_ms < STALL_P99_MS_MAX)


def _verdict(text: str, reached: bool) -> None:
    print(f"- {text}: {'reached' if reached else 'NOT REACHED'}")


if __name__ == "__main__":
    sys.exit(main())
