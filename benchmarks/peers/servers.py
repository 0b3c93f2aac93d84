"""The servers that are compared: how each is got and with what it is started.

A peer that cannot be had is not left out in silence: `Missing` says why, and the table names it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "benchmarks" / ".cache"
NODE_PACKAGE = Path(__file__).parent / "clients" / "node"
MEMORY_BYTES_MAX = str(8 << 30)

NODE_VERSION = "0.3.7"
RUST_VERSION = "0.2.0"
GO_PROGRAM = "github.com/durable-streams/durable-streams/packages/caddy-plugin/cmd/caddy"


class Missing(Exception):
    """Something that cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Kind:
    """One server in one storage mode. `{port}` in its command and environment stands for the port of this start.

    The folder for its data comes by environment, or as the last argument.
    """

    name: str
    command: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)
    durable: bool = False
    """Whether it syncs before it answers."""
    keeps: bool = False
    """Whether streams are there again after a restart."""
    data_as_argument: bool = False
    ready_path: str = "/v1/stream/is-it-ready"
    main_rows_only: bool = False


def ours(mode: str, worker_class: str = "stream") -> Kind:
    """This server, with the log of every request turned off, as it is for its peers."""
    environ = {
        "DS_STORAGE__MODE": mode,
        "DS_SERVER__PORT": "{port}",
        "DS_SERVER__HOST": "127.0.0.1",
        "DS_SERVER__WORKER_CLASS": worker_class,
        "DS_LOG__RUST_LOG": "warn",
        "DS_LIMITS__MAX_MEMORY_BYTES": MEMORY_BYTES_MAX,
        "DS_SERVER__SSE_RECONNECT_INTERVAL_SECS": "0",
    }
    stock = worker_class == "gevent"
    return Kind(
        f"ours {mode}, stock worker" if stock else f"ours {mode}",
        (sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"),
        environ,
        durable=mode in ("file-durable", "acid"),
        keeps=mode != "memory",
        ready_path="/readyz",
        main_rows_only=stock,
    )


def node(file_store: bool) -> Kind:
    """The reference server from npm, installed once into the cache, from our lock file."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise Missing("node and npm are not installed")
    folder = CACHE / f"node-{NODE_VERSION}"
    if not (folder / "installed").exists():
        shutil.copytree(NODE_PACKAGE, folder, dirs_exist_ok=True)
        # Not `npm ci`: it refuses where a registry lacks an optional package for another processor.
        run("npm", "install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error", folder=folder)
        (folder / "installed").touch()
    shutil.copy(NODE_PACKAGE / "reference.mjs", folder)
    return Kind(
        "node file" if file_store else "node memory",
        ("node", str(folder / "reference.mjs"), "{port}"),
        durable=file_store,
        keeps=file_store,
        data_as_argument=file_store,
    )


def rust(mode: str) -> Kind:
    """The Rust server from its registry, built once into the cache (or BENCH_RUST_SERVER names its program)."""
    program = Path(os.environ.get("BENCH_RUST_SERVER") or CACHE / "rust" / "bin" / "durable-streams-server")
    if not program.exists():
        if shutil.which("cargo") is None:
            raise Missing("cargo is not installed")
        version = ("--version", RUST_VERSION, "--locked")
        run("cargo", "install", "durable-streams-server", *version, "--root", str(CACHE / "rust"))
    environ = {
        "DS_STORAGE__MODE": mode,
        "DS_SERVER__PORT": "{port}",
        "DS_LIMITS__MAX_MEMORY_BYTES": MEMORY_BYTES_MAX,
        "DS_LIMITS__MAX_STREAM_BYTES": MEMORY_BYTES_MAX,
        "DS_SERVER__SSE_RECONNECT_INTERVAL_SECS": "0",
        "DS_LOG__RUST_LOG": "warn",
        "RUST_LOG": "warn",
    }
    on_disk = mode != "memory"
    return Kind(
        f"rust {mode}", (str(program),), environ, durable=on_disk, keeps=on_disk, ready_path="/readyz"
    )


def caddy() -> Kind:
    """The Go plugin with its memory store, if the module proxy has it in a form that builds."""
    if shutil.which("go") is None:
        raise Missing("go is not installed")
    program = CACHE / "go" / "bin" / "caddy"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        run("go", "install", f"{GO_PROGRAM}@latest", environ={"GOBIN": str(program.parent)})
    config = CACHE / "go" / "Caddyfile"
    config.write_text(
        "{\n\tadmin off\n\tauto_https off\n}\n"
        "http://127.0.0.1:{$BENCH_PORT} {\n\troute /v1/stream/* {\n\t\tdurable_streams\n\t}\n}\n"
    )
    command = (str(program), "run", "--config", str(config), "--adapter", "caddyfile")
    return Kind("caddy memory", command, {"BENCH_PORT": "{port}"})


QUICK: Mapping[str, Callable[[], Kind]] = {
    "ours memory": lambda: ours("memory"),
    "node memory": lambda: node(file_store=False),
    "ours file-durable": lambda: ours("file-durable"),
    "node file": lambda: node(file_store=True),
}
ALL: Mapping[str, Callable[[], Kind]] = {
    **QUICK,
    "rust memory": lambda: rust("memory"),
    "ours acid": lambda: ours("acid"),
    "rust file-durable": lambda: rust("file-durable"),
    "rust acid": lambda: rust("acid"),
    "ours file-fast": lambda: ours("file-fast"),
    "ours memory, stock worker": lambda: ours("memory", "gevent"),
    "caddy memory": caddy,
}


def run(*command: str, environ: Mapping[str, str] | None = None, folder: Path | None = None) -> None:
    """A command that installs or builds. Raises Missing with the last line it said, hosts and paths left out."""
    finished = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | dict(environ or {}), cwd=folder
    )
    if finished.returncode:
        lines = (finished.stderr or finished.stdout).strip().splitlines() or [f"code {finished.returncode}"]
        said = re.sub(r"https?://\S+|(/[\w.-]+){2,}", "...", lines[-1].strip())
        raise Missing(f"`{' '.join(command[:3])}` failed: {said}")
