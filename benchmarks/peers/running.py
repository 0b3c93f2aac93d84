"""A started server: on its core, with its data in a folder, and what its processes have used so far.

Which server it is and how it was got is decided in servers.py.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers.servers import CACHE, ROOT, Kind, Missing, run

CLIENTS = Path(__file__).parent / "clients"
SERVER_CORE, LOAD_CORE = "1", "0"
START_SECONDS_MAX = 120.0
STOP_SECONDS_MAX = 30.0
QUIET_SHARE = 0.05


class Running:
    """The processes of a started server."""

    def __init__(self, kind: Kind, process: subprocess.Popen[bytes], port: int, start_s: float) -> None:
        self.kind = kind
        self.port = port
        self.start_s = start_s
        self._process = process

    def cpu_s(self) -> float:
        """CPU seconds, user and system, of all its processes, from the clocks that the system keeps of each."""
        return sum(time.clock_gettime(_cpu_clock(pid)) for pid in self.pids())

    def rss_bytes(self) -> int:
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids())
        return pages * os.sysconf("SC_PAGE_SIZE")

    def pids(self) -> list[int]:
        """Its process and all below it."""
        found = [self._process.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                found += [int(child) for child in task.read_text().split() if int(child) not in found]
        return found

    def settle(self, seconds_max: float = 15.0) -> None:
        """Wait until it has done what it still had to do for earlier requests."""
        end = time.monotonic() + seconds_max
        while time.monotonic() < end:
            before = self.cpu_s()
            time.sleep(0.25)
            if self.cpu_s() - before < 0.25 * QUIET_SHARE:
                return


def _cpu_clock(pid: int) -> int:
    """The number of a process's CPU clock, as `clock_getcpuclockid` of the C library makes it."""
    return (~pid << 3) | 2


@contextmanager
def running(kind: Kind, folder: Path, slow_sync_us: int = 0) -> Iterator[Running]:
    """The server on its core, ready for requests; its data in `folder`, which may hold data of an earlier run.

    Raises Missing when it does not start.
    """
    port = _free_port()
    own = {name: value.replace("{port}", str(port)) for name, value in kind.environ.items()}
    environ = os.environ | own | {"DS_STORAGE__DATA_DIR": str(folder)}
    if slow_sync_us:
        environ |= {"LD_PRELOAD": str(compiled("slow_sync.so")), "SLOW_SYNC_US": str(slow_sync_us)}
    command = [part.replace("{port}", str(port)) for part in ("taskset", "-c", SERVER_CORE, *kind.command)]
    command += [str(folder)] if kind.data_as_argument else []
    began = time.monotonic()
    with (folder.parent / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environ, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
        )
        try:
            _await_answer(process, f"http://127.0.0.1:{port}{kind.ready_path}", began)
            yield Running(kind, process, port, time.monotonic() - began)
        finally:
            _stop(process)


def _free_port() -> int:
    """A new one for every start: what answers there is this server, and nobody else's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _await_answer(process: subprocess.Popen[bytes], url: str, began: float) -> None:
    while time.monotonic() - began < START_SECONDS_MAX:
        if process.poll() is not None:
            raise Missing(f"it ended at its start with code {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError as answer:
            # No stream of that name: it is there.
            if answer.code == 404:
                return
        except OSError:
            pass
        time.sleep(0.01)
    raise Missing(f"it did not answer within {START_SECONDS_MAX:.0f} s")


def compiled(name: str) -> Path:
    """A C client or shim, compiled into the cache when it is older than its source."""
    source = CLIENTS / (Path(name).stem + ".c")
    target = CACHE / name
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        CACHE.mkdir(parents=True, exist_ok=True)
        shared = ("-shared", "-fPIC") if target.suffix == ".so" else ()
        run("cc", "-O2", *shared, "-o", str(target), str(source), "-ldl")
    return target
