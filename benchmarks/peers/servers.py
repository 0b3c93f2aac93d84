"""The servers that are compared: how each is got, started and stopped.

A peer that cannot be had is not left out in silence: `Missing` says why, and the table names it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

CLIENTS = Path(__file__).parent / "clients"
ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "benchmarks" / ".cache"
PORT = 4499
SERVER_CORE, LOAD_CORE = "1", "0"
START_SECONDS_MAX = 60.0
MEMORY_BYTES_MAX = str(8 << 30)

NODE_VERSION = "0.3.7"
RUST_VERSION = "0.2.0"
GO_MODULE = "github.com/durable-streams/durable-streams/packages/caddy-plugin"


class Missing(Exception):
    """A peer that cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Kind:
    """One server in one storage mode. `command` gets the folder for its data appended as environment or argument."""

    name: str
    family: str
    command: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)
    durable: bool = False
    keeps: bool = False
    """Whether streams are there again after a restart."""
    data_as_argument: bool = False


def ours(mode: str, backend: str = "file") -> Kind:
    """This server, with the log of every request turned off, as it is for its peers."""
    environ = {
        "DS_STORAGE__MODE": mode,
        "DS_STORAGE__ACID_BACKEND": backend,
        "DS_SERVER__PORT": str(PORT),
        "DS_SERVER__HOST": "127.0.0.1",
        "DS_LOG__RUST_LOG": "warn",
        "DS_LIMITS__MAX_MEMORY_BYTES": MEMORY_BYTES_MAX,
        "DS_SERVER__SSE_RECONNECT_INTERVAL_SECS": "0",
    }
    command = (sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app")
    on_disk = mode != "memory" and backend == "file"
    name = f"ours {mode}" if backend == "file" else f"ours {mode} {backend}"
    return Kind(name, "ours", command, environ, durable=on_disk and mode != "file-fast", keeps=on_disk)


def node(file_store: bool) -> Kind:
    """The reference server from npm, installed once into the cache."""
    folder = CACHE / f"node-{NODE_VERSION}"
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise Missing("node and npm are not installed")
    if not (folder / "node_modules" / "@durable-streams" / "server").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        _run(
            "npm",
            "install",
            "--prefix",
            str(folder),
            "--no-audit",
            "--no-fund",
            f"@durable-streams/server@{NODE_VERSION}",
        )
    script = folder / "reference.mjs"
    shutil.copy(CLIENTS / "reference.mjs", script)
    name = "node file" if file_store else "node memory"
    command = ("node", str(script), str(PORT))
    return Kind(name, "node", command, durable=file_store, keeps=file_store, data_as_argument=file_store)


def rust(mode: str) -> Kind:
    """The Rust server from its registry, built once into the cache (or BENCH_RUST_SERVER names its program)."""
    program = Path(os.environ.get("BENCH_RUST_SERVER") or CACHE / "rust" / "bin" / "durable-streams-server")
    if not program.exists():
        if shutil.which("cargo") is None:
            raise Missing("cargo is not installed")
        _run(
            "cargo",
            "install",
            "durable-streams-server",
            "--version",
            RUST_VERSION,
            "--root",
            str(CACHE / "rust"),
        )
    environ = {
        "DS_STORAGE__MODE": mode,
        "DS_SERVER__PORT": str(PORT),
        "DS_LIMITS__MAX_MEMORY_BYTES": MEMORY_BYTES_MAX,
        "DS_LIMITS__MAX_STREAM_BYTES": MEMORY_BYTES_MAX,
        "DS_SERVER__SSE_RECONNECT_INTERVAL_SECS": "0",
        "DS_LOG__RUST_LOG": "warn",
        "RUST_LOG": "warn",
    }
    on_disk = mode != "memory"
    return Kind(f"rust {mode}", "rust", (str(program),), environ, durable=on_disk, keeps=on_disk)


def caddy() -> Kind:
    """The Go plugin, if the module proxy has it in a form that builds."""
    if shutil.which("go") is None:
        raise Missing("go is not installed")
    program = CACHE / "go" / "bin" / "durable-streams-server"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        environ = {"GOBIN": str(program.parent), "GOFLAGS": "-mod=mod"}
        _run("go", "install", f"{GO_MODULE}/cmd/caddy@latest", environ=environ)
        built = program.parent / "caddy"
        if built.exists():
            built.rename(program)
    config = CACHE / "go" / "Caddyfile"
    config.write_text(
        "{\n\tadmin off\n\tauto_https off\n}\n"
        f"http://127.0.0.1:{PORT} {{\n\troute /v1/stream/* {{\n\t\tdurable_streams\n\t}}\n}}\n"
    )
    return Kind(
        "caddy memory", "caddy", (str(program), "run", "--config", str(config), "--adapter", "caddyfile")
    )


def _run(*command: str, environ: Mapping[str, str] | None = None) -> None:
    finished = subprocess.run(command, capture_output=True, text=True, env=os.environ | dict(environ or {}))
    if finished.returncode:
        lines = (finished.stderr or finished.stdout).strip().splitlines()
        raise Missing(f"`{' '.join(command[:3])} ...` failed: {lines[-1] if lines else finished.returncode}")


class Running:
    """A started server and what its processes have used."""

    def __init__(self, kind: Kind, process: subprocess.Popen[bytes], start_s: float) -> None:
        self.kind = kind
        self.port = PORT
        self.start_s = start_s
        self._process = process

    def cpu_s(self) -> float:
        """CPU seconds, user and system, of all its processes so far."""
        ticks = 0
        for pid in self._pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self) -> int:
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self._pids())
        return pages * os.sysconf("SC_PAGE_SIZE")

    def _pids(self) -> list[int]:
        found = [self._process.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                found += [int(child) for child in task.read_text().split() if int(child) not in found]
        return found


@contextmanager
def running(kind: Kind, folder: Path, slow_sync_us: int = 0) -> Iterator[Running]:
    """The server on its core, ready for requests; its data in `folder`, which may hold data of an earlier run."""
    environ = os.environ | dict(kind.environ) | {"DS_STORAGE__DATA_DIR": str(folder)}
    if slow_sync_us:
        environ |= {"LD_PRELOAD": str(compiled("slow_sync.so")), "SLOW_SYNC_US": str(slow_sync_us)}
    command = ["taskset", "-c", SERVER_CORE, *kind.command, *([str(folder)] if kind.data_as_argument else [])]
    began = time.monotonic()
    log = (folder.parent / "server.log").open("wb")
    process = subprocess.Popen(command, env=environ, cwd=ROOT, stdout=log, stderr=log)
    try:
        _await_answer(process, kind, began)
        yield Running(kind, process, time.monotonic() - began)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def _await_answer(process: subprocess.Popen[bytes], kind: Kind, began: float) -> None:
    probe = "/readyz" if kind.family in ("ours", "rust") else "/v1/stream/is-it-ready"
    while time.monotonic() - began < START_SECONDS_MAX:
        if process.poll() is not None:
            raise Missing(f"it ended at its start with code {process.returncode}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}{probe}", timeout=5):
                return
        except urllib.error.HTTPError as answer:
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
        _run("cc", "-O2", *shared, "-o", str(target), str(source), "-ldl")
    return target
