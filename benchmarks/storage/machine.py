"""What was measured on what: without it, a figure says nothing."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

from benchmarks.storage.reading import MEBIBYTE
from durable_streams import __version__

SYNCS = 200


def describe(folder: Path) -> list[str]:
    """Lines for people: date, machine, versions, file system, and what one sync costs there."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("gevent", "ZODB", "msgspec"))
    p50, p99 = _sync_ms(folder / "sync-probe")
    return [
        f"Date: {datetime.now(UTC):%Y-%m-%d}; durable-streams-server {__version__}",
        f"Machine: {os.cpu_count()} x {_processor()}, {_memory_gib():.0f} GiB, Linux {platform.release()}",
        f"Software: {platform.python_implementation()} {platform.python_version()}, {versions}",
        f"Disk: {_file_system(folder)}; append of 4 KiB and fdatasync: p50 {p50:.2f} ms, p99 {p99:.2f} ms",
    ]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / MEBIBYTE / 1024


def _file_system(folder: Path) -> str:
    """The type of the mount that holds `folder`."""
    path, found, kind = folder.resolve(), "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, mount_kind = line.split()[:3]
        if path.is_relative_to(mount) and len(mount) >= len(found):
            found, kind = mount, mount_kind
    return kind


def _sync_ms(path: Path) -> tuple[float, float]:
    taken: list[float] = []
    with path.open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            file.write(b"x" * 4096)
            began = perf_counter()
            os.fdatasync(file.fileno())
            taken.append((perf_counter() - began) * 1000)
    path.unlink()
    taken.sort()
    return taken[SYNCS // 2], taken[SYNCS * 99 // 100]
