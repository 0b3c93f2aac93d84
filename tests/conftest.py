"""How the tests are run, and fixtures that several folders need: kinds of server, certificates, clients."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import HealthCheck, settings

from tests.scratch import Scratch
from tests.servers import ROOT, SERVER_KINDS, ServerKind, TlsFiles
from tests.tiers import FAST, PiecesScheduling, Tier, folder_of, place_of, tier_of
from tests.watching import CheckoutGuard, FailureNames

MEASURED = ("protocol", "streams", "subscriptions", "storage", "contract", "live", "web")
"""The folders whose tests have to cover `protocol/` and `streams/`: `make coverage` runs these."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def absent(what: str) -> None:
    """Skip the test because something that it needs is not installed; under CI=true that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} (CI=true, so this must not be missing)")
    pytest.skip(what)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # The processes of xdist report to the first one, which has the terminal.
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Scratch(config))
        config.pluginmanager.register(FailureNames(config))
        config.pluginmanager.register(CheckoutGuard(ROOT))
    # How long an example takes says something of the machine, and nothing of the code.
    settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=place_of)
    for item in items:
        item.add_marker(tier_of(item).value)
        if folder_of(item.path) in MEASURED:
            item.add_marker(pytest.mark.measured)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Importing the other tests would take as long as running the fast ones."""
    is_left_out = config.option.markexpr == Tier.FAST and collection_path.parent != ROOT
    return True if is_left_out and folder_of(collection_path) not in FAST else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> PiecesScheduling | None:
    return PiecesScheduling(config, log) if config.option.dist == "loadscope" else None


@pytest.fixture(scope="module", params=[kind.param() for kind in SERVER_KINDS])
def server_kind(request: pytest.FixtureRequest) -> ServerKind:
    """Every kind of server in turn."""
    kind: ServerKind = request.param
    return kind


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """A certificate made for this run by an authority made for this run."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    files = TlsFiles(folder / "certificate.pem", folder / "key.pem", folder / "authority.pem")
    issued.private_key_pem.write_to_path(files.key)
    files.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    authority.cert_pem.write_to_path(files.authority)
    return files


@pytest.fixture(scope="session")
def node() -> str:
    """The command of a Node that is new enough, with the packages of tests/package.json beside it."""
    command = shutil.which("node")
    if command is None:
        absent("Node >= 20 is not installed")
    assert command is not None
    version = subprocess.run(
        [command, "--version"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < 20:
        absent(f"Node >= 20 is needed and {version} is installed")
    if not (ROOT / "tests" / "node_modules" / "@durable-streams" / "client").is_dir():
        absent("the npm packages are not installed: `make test` does it")
    return command


@pytest.fixture(scope="session")
def browser(node: str) -> str:
    """The program of Debian's Chromium, or of Chrome, for playwright-core to drive."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        absent("no Chromium is installed (Debian: apt-get install chromium)")
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        absent("the address space is limited (ulimit -v), and Chromium reserves more than it uses")
    if not (ROOT / "tests" / "node_modules" / "playwright-core").is_dir():
        absent("the npm package playwright-core is not installed: `make test` does it")
    assert found is not None
    return found


@pytest.fixture(scope="session")
def python_client() -> Path:
    """The interpreter of the environment that holds the official Python client."""
    interpreter = ROOT / ".venv-client" / "bin" / "python"
    if not interpreter.exists():
        absent("the official Python client is not installed: `make test` does it")
    return interpreter


@pytest.fixture
def payload_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of memory only payload counts, so that a test can say how much of it there is room for."""
    budget = "durable_streams.streams.budget"
    monkeypatch.setattr(f"{budget}.remembered_bytes", lambda state: 0)
    monkeypatch.setattr(f"{budget}.remembered_growth", lambda before, after, entries: 0)
