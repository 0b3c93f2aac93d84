"""What is given away: the wheel's content, the lock files, and that the two agree with pyproject.toml."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest

import durable_streams
from durable_streams.extras import EXTRAS
from tests.servers import ROOT, running_server

LOCKS = ("run", "dev", "client")


def _distribution(requirement: str) -> str:
    """The name of a requirement in its normal form."""
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~\[; ]", requirement)[0]).lower()


def pins(group: str) -> dict[str, str]:
    """Package -> version of a lock file, names in their normal form."""
    text = (ROOT / "requirements" / f"{group}.txt").read_text(encoding="utf-8")
    found = re.findall(r"^([A-Za-z0-9_.\-]+)==([^\s;]+)", text, re.MULTILINE)
    return {_distribution(name): version for name, version in found}


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = dict(project["project"]["optional-dependencies"])
    del extras["all"]
    wanted = {
        "run": [*project["project"]["dependencies"], *chain.from_iterable(extras.values())],
        "dev": project["dependency-groups"]["dev"],
        "client": project["dependency-groups"]["client"],
    }
    for group, requirements in wanted.items():
        names = set(map(_distribution, requirements))
        assert names <= pins(group).keys(), f"`make lock` has not been run since {group} changed"


def test_the_tools_and_the_server_agree_on_the_versions_that_they_share() -> None:
    run, dev = pins("run"), pins("dev")
    assert {name: dev[name] for name in run.keys() & dev.keys()} == {
        name: run[name] for name in run.keys() & dev.keys()
    }


@pytest.mark.parametrize("group", LOCKS)
def test_a_lock_names_no_package_index_and_a_hash_for_every_pin(group: str) -> None:
    text = (ROOT / "requirements" / f"{group}.txt").read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.findall(r"^\s*(?:-i|-f|--index|--extra-index|--find-links|--trusted)", text, re.MULTILINE)
    for entry in re.split(r"\n(?=[A-Za-z0-9])", text)[1:]:
        assert "--hash=sha256:" in entry, entry


def test_the_npm_lock_names_no_registry() -> None:
    lock = json.loads((ROOT / "tests" / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert [name for name, package in packages.items() if "integrity" not in package] == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, because building leaves folders behind; the tests go along to see that they stay out."""
    folder = tmp_path_factory.mktemp("wheel")
    left_out = shutil.ignore_patterns(
        "__pycache__", "node_modules", ".*", "*.egg-info", "build", "dist", "data"
    )
    shutil.copytree(ROOT, folder / "source", ignore=left_out, symlinks=True)
    (folder / "source" / "config" / "local.toml").write_text("[server]\nport = 1\n")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--disable-pip-version-check", "--no-index", "--wheel-dir", folder, folder / "source"],
        check=True,
        timeout=240,
    )
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_its_types_its_licence_and_nothing_else(wheel: Path) -> None:
    assert wheel.name.startswith(f"durable_streams_server-{durable_streams.__version__}-")
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
    tops = {name.split("/")[0] for name in names}
    assert tops == {"durable_streams", f"durable_streams_server-{durable_streams.__version__}.dist-info"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    packed = {name for name in names if name.startswith("durable_streams/")}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "durable_streams").rglob("*.py")}
    assets = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "durable_streams" / "web" / "inspector" / "assets").rglob("*")
        if path.is_file()
    }
    profiles = {f"durable_streams/config/profiles/{name}.toml" for name in ("default", "dev", "prod")}
    assert packed == modules | assets | profiles | {"durable_streams/py.typed"}


def test_the_wheel_holds_the_configuration_files_of_this_folder(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        for name in ("default", "dev", "prod"):
            packed = opened.read(f"durable_streams/config/profiles/{name}.toml")
            assert packed == (ROOT / "config" / f"{name}.toml").read_bytes()


# -- the wheel in an environment of its own ---------------------------------------------------------------------


class Environment:
    """An environment that holds the wheel, and the packages of this one but for some; the checkout is not in it."""

    def __init__(self, folder: Path, wheel: Path, *, without: tuple[str, ...] = ()) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        self.bin = folder / "venv" / "bin"
        self.work = folder / "work"
        self.work.mkdir()
        options = ("--quiet", "--disable-pip-version-check", "--no-index", "--no-deps")
        pip = [sys.executable, "-m", "pip", "--python", str(self.bin / "python"), "install", *options]
        subprocess.run([*pip, str(wheel)], check=True, timeout=240)
        self._link_packages(folder / "packages", set(without))

    def _link_packages(self, folder: Path, without: set[str]) -> None:
        """What a folder named by a `.pth` file holds can be imported, and its own `.pth` files are not read."""
        folder.mkdir()
        for kind in ("purelib", "platlib"):
            for path in Path(sysconfig.get_path(kind)).iterdir():
                top = path.name.split(".")[0].split("-")[0]
                if top not in without | {"durable_streams", "durable_streams_server"}:
                    (folder / path.name).unlink(missing_ok=True)
                    (folder / path.name).symlink_to(path)
        site = subprocess.run(
            [self.bin / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        (Path(site) / "packages.pth").write_text(f"{folder}\n")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, outside the checkout."""
        environ = {"PATH": os.environ["PATH"], "DS_SERVER__PORT": "0"}
        program = [str(self.bin / command[0]), *command[1:]]
        return subprocess.run(
            program, cwd=self.work, env=environ, capture_output=True, text=True, timeout=180
        )


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("everything"), wheel)


@pytest.fixture(scope="module")
def small_environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """What `pip install durable-streams-server` gives, without an extra."""
    without = tuple(name for names in EXTRAS.values() for name in names if name != "persistent")
    return Environment(tmp_path_factory.mktemp("small"), wheel, without=without)


@pytest.fixture(scope="module")
def environment_without_acid(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(
        tmp_path_factory.mktemp("no-acid"), wheel, without=("ZODB", "transaction", "prometheus_client")
    )


def test_the_environment_does_not_see_the_checkout(environment: Environment) -> None:
    place = environment.run("python", "-c", "import durable_streams; print(durable_streams.__file__)").stdout
    assert place.startswith(str(environment.bin.parent))


WAYS_TO_SERVE = {
    "console script": ("durable-streams-server",),
    "python -m": ("python", "-m", "durable_streams", "serve"),
    "dev": ("durable-streams-server", "--profile", "dev"),
    "prod": ("durable-streams-server", "--profile", "prod"),
    "acid": ("durable-streams-server", "serve", "--mode", "acid"),
    "gunicorn": (
        *("python", "-m", "gunicorn"),
        *("-c", "python:durable_streams.gunicorn_conf", "durable_streams.wsgi:app"),
    ),
}


@pytest.mark.server
@pytest.mark.parametrize("command", WAYS_TO_SERVE.values(), ids=WAYS_TO_SERVE)
def test_the_wheel_serves_outside_the_checkout(
    command: tuple[str, ...], environment: Environment, tmp_path: Path
) -> None:
    whole = (str(environment.bin / command[0]), *command[1:])
    with running_server(tmp_path, command=whole, cwd=environment.work) as server:
        assert server.request("PUT", "/v1/stream/a", b"x", {"Content-Type": "text/plain"}).status == 201
        assert server.request("GET", "/v1/stream/a").body == b"x"
        assert durable_streams.__version__.encode() in server.request("GET", "/").body
        assert server.terminate() == 0
    assert list(environment.work.iterdir()) == []


@pytest.mark.server
def test_a_reload_makes_settings_again_that_are_named_as_a_module(
    environment: Environment, tmp_path: Path
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[http]\nstream_base_path = "/before"\n')
    command = (str(environment.bin / WAYS_TO_SERVE["gunicorn"][0]), *WAYS_TO_SERVE["gunicorn"][1:])
    with running_server(tmp_path, {"DS_CONFIG": str(file)}, command=command, cwd=environment.work) as server:
        file.write_text('[http]\nstream_base_path = "/after"\n')
        server.process.send_signal(signal.SIGHUP)
        server.await_log("reloaded: http.stream_base_path")
        assert server.request("PUT", "/after/a").status == 201


def test_the_extras_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert extras.pop("all") == [f"durable-streams-server[{','.join(extras)}]"]
    distributions = packages_distributions()
    for extra, requirements in extras.items():
        wanted = {_distribution(line) for line in requirements}
        named = {
            _distribution(name) for module in EXTRAS[extra] for name in distributions[module.split(".")[0]]
        }
        if any("." in module for module in EXTRAS[extra]):
            # Parts of a package that many distributions share.
            assert wanted == {_distribution(module) for module in EXTRAS[extra]}
            assert wanted <= named
        else:
            assert wanted == named
    assert extras.keys() == EXTRAS.keys()


EMBEDDING = """
import tempfile
from pathlib import Path
from flask import Flask
from durable_streams import Config, FileStorage, InMemoryStorage, build_blueprint
for storage in (InMemoryStorage(), FileStorage(Path(tempfile.mkdtemp()) / "data", durable=True)):
    app = Flask("mine")
    app.register_blueprint(build_blueprint(storage, Config()), url_prefix="/streams")
    client = app.test_client()
    assert client.put("/streams/a", data=b"x", content_type="text/plain").status_code == 201
    assert client.get("/streams/a?offset=-1").data == b"x"
    app.extensions["durable_streams"].close()
print("served")
"""


def test_without_an_extra_an_app_can_embed_memory_and_files(small_environment: Environment) -> None:
    finished = small_environment.run("python", "-c", EMBEDDING)
    assert finished.stdout == "served\n", finished.stderr


@pytest.mark.parametrize(
    "command", [("durable-streams-server",), ("python", "-c", "import durable_streams.wsgi")]
)
def test_serving_without_its_extra_says_what_to_install(
    command: tuple[str, ...], small_environment: Environment
) -> None:
    finished = small_environment.run(*command)
    assert finished.returncode == 1
    last = finished.stderr.splitlines()[-1]
    assert "gunicorn, which is not installed: pip install 'durable-streams-server[server]'" in last


ACID_MODE = (
    "storage.mode = acid needs the package ZODB, which is not installed: "
    "pip install 'durable-streams-server[acid]'"
)


@pytest.mark.server
def test_metrics_without_their_extra_say_what_to_install(
    environment_without_acid: Environment, tmp_path: Path
) -> None:
    settings = tmp_path / "mine.toml"
    settings.write_text("[metrics]\nenabled = true\n")
    finished = environment_without_acid.run("durable-streams-server", "serve", "--config", str(settings))
    assert finished.returncode == 78
    (line,) = finished.stderr.splitlines()
    assert "pip install 'durable-streams-server[metrics]'" in line


@pytest.mark.server
def test_a_mode_without_its_extra_says_what_to_install(
    environment_without_acid: Environment, tmp_path: Path
) -> None:
    finished = environment_without_acid.run("durable-streams-server", "serve", "--mode", "acid")
    assert finished.returncode == 78
    (line,) = finished.stderr.splitlines()
    assert ACID_MODE in line
    command = (str(environment_without_acid.bin / "durable-streams-server"), "--mode", "file-fast")
    with running_server(tmp_path, command=command, cwd=environment_without_acid.work) as server:
        assert server.request("PUT", "/v1/stream/a").status == 201


def test_a_name_of_the_package_that_needs_an_extra_says_so(small_environment: Environment) -> None:
    finished = small_environment.run("python", "-c", "from durable_streams import AcidStorage")
    assert "AcidStorage needs the package ZODB" in finished.stderr.splitlines()[-1]


def test_the_configuration_can_be_printed_without_an_extra(small_environment: Environment) -> None:
    finished = small_environment.run("durable-streams-server", "config")
    assert tomllib.loads(finished.stdout)["storage"]["mode"] == "memory"
