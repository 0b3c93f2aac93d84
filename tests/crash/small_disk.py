"""A disk of a few mebibytes that only the processes of a test see, and which goes when they have ended.

It is a tmpfs in a mount namespace of its own, so nothing is mounted for anybody else. Where the system does not
let this user make one, the test is skipped with what it said.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers import ROOT

MEBIBYTE = 1 << 20


class SmallDisk:
    """A mounted disk. `prefix` goes before a command that is to see it at `path`."""

    def __init__(self, path: Path, holder: subprocess.Popen[str], *, as_root: bool) -> None:
        users = [] if as_root else ["--user", "--preserve-credentials"]
        # Entering leaves the working directory, which the server is started in.
        back = ["env", f"--chdir={ROOT}"]
        self.prefix = ("nsenter", f"--target={holder.pid}", "--mount", *users, *back)
        self.path = path
        # The same place, seen from outside.
        self._seen = Path(f"/proc/{holder.pid}/root{path}")

    def fill(self, spare_bytes: int = 0) -> None:
        """Take all the room that there is but `spare_bytes`."""
        ballast = self._seen / "ballast"
        with ballast.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                file.truncate(max(file.tell() - spare_bytes, 0))

    def make_room(self) -> None:
        """Give back what `fill` has taken."""
        (self._seen / "ballast").unlink()


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[SmallDisk]:
    """Mount it at a folder of its own in `folder`; skips the test where that is not possible."""
    if not shutil.which("unshare") or not shutil.which("nsenter"):
        pytest.skip("unshare and nsenter (util-linux) are not installed")
    as_root = os.geteuid() == 0
    path = folder / "disk"
    path.mkdir()
    namespace = ["unshare", "--mount"] if as_root else ["unshare", "--user", "--map-root-user", "--mount"]
    mount = f"mount -t tmpfs -o size={mebibytes}m,mode=777 tmpfs '{path}' && echo mounted && exec cat"
    holder = subprocess.Popen(
        [*namespace, "sh", "-c", mount],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    if holder.stdout.readline() != "mounted\n":
        _, said = holder.communicate()
        pytest.skip(f"this user cannot mount a disk in a namespace: {said.strip()}")
    try:
        yield SmallDisk(path, holder, as_root=as_root)
    finally:
        # It reads its input to the end, and the disk goes with the last process that sees it.
        holder.communicate()
