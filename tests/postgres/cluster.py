"""A real PostgreSQL of the tests' own: in a temporary directory, on a Unix socket, ended with the process."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from functools import lru_cache
from itertools import count
from pathlib import Path

from tests.conftest import absent

_schemas = count()


def programs() -> Path | None:
    """The folder of initdb and pg_ctl; Debian keeps them away from PATH."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    return folders[-1] if folders else None


class Cluster:
    """One database server, which may be stopped and started."""

    def __init__(self, folder: Path, programs_in: Path, more_settings: str = "") -> None:
        """``more_settings``: lines for postgresql.conf."""
        self.folder = folder
        self._programs = programs_in
        self._data = folder / "data"
        self._owner = (
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        )
        if self._owner:
            shutil.chown(folder, "postgres", "postgres")
        self._run(
            "initdb", "-D", str(self._data), "-U", "streams", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"
        )
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(
                f"listen_addresses = ''\nunix_socket_directories = '{folder}'\nmax_connections = 200\n"
                "shared_buffers = 64MB\nautovacuum_naptime = 5s\n"
                # The machine does not crash under a test; a crash of the database alone loses nothing of this.
                f"fsync = off\nfull_page_writes = off\n{more_settings}"
            )
        self.start()

    @property
    def dsn(self) -> str:
        return f"host={self.folder} user=streams dbname=postgres"

    @property
    def pid(self) -> int:
        """Of the process that all sessions are children of."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def start(self) -> None:
        self._run("pg_ctl", "-D", str(self._data), "-l", str(self.folder / "log"), "-w", "start")

    def stop(self, how: str = "fast") -> None:
        """``how``: ``fast`` ends sessions, ``immediate`` is a crash."""
        self._run("pg_ctl", "-D", str(self._data), "-m", how, "-w", "stop")

    def remove(self) -> None:
        if (self._data / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._owner, str(self._programs / program), *arguments]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, f"{program}: {done.stdout}"


@lru_cache(maxsize=1)
def shared_cluster() -> Cluster:
    """The one of this process; skips the test where PostgreSQL is not installed."""
    found = programs()
    if found is None:
        absent("PostgreSQL is not installed")
    assert found is not None
    cluster = Cluster(Path(tempfile.mkdtemp(prefix="ds-postgres-")), found)
    atexit.register(cluster.remove)
    return cluster


def new_schema() -> str:
    """A name that no other test of this process uses."""
    return f"test_{os.getpid()}_{next(_schemas)}"
