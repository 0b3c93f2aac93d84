"""The README's commands do what the README says: its curl examples are run against the server, in their order."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import absent
from tests.servers import ROOT, running_server

README = (ROOT / "README.md").read_text(encoding="utf-8")
PORT = "4437"

# An error of the server fails the script. A live read goes on until it is cut off, which curl reports as 28.
PRELUDE = """
curl() {
  case "$*" in
    *live=*) command curl --fail --silent --show-error --max-time 1 "$@" || [ $? = 28 ] ;;
    *) command curl --fail --silent --show-error --max-time 10 "$@" ;;
  esac
}
"""


def shell_blocks() -> list[str]:
    return re.findall(r"```sh\n(.*?)```", README, re.DOTALL)


@pytest.mark.server
def test_every_curl_example_succeeds(tmp_path: Path) -> None:
    shell = shutil.which("bash")
    if shell is None or shutil.which("curl") is None:
        absent("bash and curl are needed to try the README's examples")
    assert shell is not None
    script = "\n".join(block for block in shell_blocks() if "curl" in block)
    with running_server(tmp_path) as server:
        finished = subprocess.run(
            [shell, "-eu"],
            input=PRELUDE + script.replace(PORT, str(server.port)),
            capture_output=True,
            text=True,
            timeout=180,
        )
    assert finished.returncode == 0, f"{finished.stdout}\n{finished.stderr}"
    assert "first line, second line" in finished.stdout
    assert '[{"order":1},{"order":2,"total":12.50}]' in finished.stdout
    assert "event: control" in finished.stdout
