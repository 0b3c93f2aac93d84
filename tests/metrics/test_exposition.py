"""The page itself: formats, the names that documents, rules and dashboard use, and labels that no client can choose."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from durable_streams.metrics.counting import WakeCounts
from durable_streams.metrics.families import PREFIX
from durable_streams.storage.abilities import FIGURES
from durable_streams.storage.memory import InMemoryStorage
from tests.conftest import absent
from tests.metrics.reading import MONITORING, families, samples
from tests.servers import ROOT
from tests.web.conftest import OpenServer
from tests.web.driving import TEXT, Server

ON = {"enabled": True}
NAME = re.compile(r"\b(?:durable_streams|process)_\w+")


class Telling(InMemoryStorage):
    """Has every figure that a storage can have."""

    def figures(self) -> dict[str, float]:
        return dict.fromkeys(FIGURES, 1.0)


@pytest.fixture
def server(open_server: OpenServer) -> Server:
    server = open_server(Telling(), metrics=ON)
    server.put("a", b"x", TEXT)
    server.get("a?offset=-1&live=long-poll")
    server.get("missing")
    return server


def printed(server: Server) -> set[str]:
    """The names of all samples, and of the families."""
    return {name for name, _ in samples(server)} | families(server).keys()


@pytest.fixture(scope="session")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        absent("promtool is not installed (Debian: apt-get install prometheus)")
    assert found
    return found


def run(command: list[str], text: str = "") -> str:
    finished = subprocess.run(command, input=text, capture_output=True, text=True, cwd=MONITORING, timeout=60)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout + finished.stderr


def test_without_the_setting_there_is_no_page_and_nothing_is_counted(open_server: OpenServer) -> None:
    server = open_server()
    assert server.get("/metrics").status_int == 404
    assert not [it for it in server.service.listeners if isinstance(it, WakeCounts)]
    assert server.store.writes._record == server.store.storage.commit


def test_the_page_is_not_cached_and_its_type_is_what_the_client_accepts(server: Server) -> None:
    plain = server.get("/metrics")
    assert plain.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert plain.headers["Cache-Control"] == "no-store"
    assert not plain.text.endswith("# EOF\n")
    assert families(server)["durable_streams_request_duration_seconds"].type == "histogram"


@pytest.mark.parametrize("base_path", ["/", "/metrics/streams"])
def test_the_page_is_served_beside_streams_below_any_base_path(
    open_server: OpenServer, base_path: str
) -> None:
    server = open_server(metrics=ON, http={"stream_base_path": [base_path]})
    assert server.get("/metrics").headers["Content-Type"].startswith("text/plain; version=0.0.4")


def test_only_reading_is_allowed(server: Server) -> None:
    assert server.request("POST", "/metrics").status_int == 405


def test_promtool_finds_no_fault_in_the_format(server: Server, promtool: str) -> None:
    run([promtool, "check", "metrics"], server.get("/metrics").text)


def test_promtool_finds_no_fault_in_the_alert_rules(promtool: str) -> None:
    run([promtool, "check", "rules", "alerts.yml"])
    run([promtool, "test", "rules", "alerts.test.yml"])


@pytest.mark.parametrize("name", ["alerts.yml", "alerts.test.yml", "dashboard.json"])
def test_rules_and_dashboard_use_names_that_the_page_prints(server: Server, name: str) -> None:
    used = set(NAME.findall((MONITORING / name).read_text()))
    assert len(used) > 5
    assert used - printed(server) == set()


def test_the_dashboard_shows_every_family(server: Server) -> None:
    shown = " ".join(
        target["expr"]
        for panel in json.loads((MONITORING / "dashboard.json").read_text())["panels"]
        for target in panel["targets"]
    )
    ours = {name for name in families(server) if name.startswith(PREFIX)}
    assert {name for name in ours if name not in shown} == set()


def test_the_document_has_one_row_for_every_family_with_its_labels(server: Server) -> None:
    rows = dict(
        re.findall(r"^\| `(durable_streams_\w+)` \|([\w, ]*)\|", document(), re.MULTILINE),
    )
    expected = {}
    for family in families(server).values():
        if family.name.startswith(PREFIX):
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            name = family.name + ("_total" if family.type == "counter" else "")
            expected[name] = labels
    assert {name: set(filter(None, text.strip().split(", "))) for name, text in rows.items()} == expected


def document() -> str:
    return (ROOT / "docs" / "monitoring.md").read_text()


def test_no_client_can_make_a_series(server: Server) -> None:
    def ask(secret: str) -> None:
        server.put(secret, b"x", TEXT)
        server.get(f"{secret}?offset=-1", {"User-Agent": secret, "Origin": f"https://{secret}"})
        server.get(f"/{secret}")
        server.get(f"missing/{secret}")
        server.get("/metrics")

    ask("secret")
    before = samples(server).keys()
    for number in range(50):
        ask(f"secret{number}")
    assert samples(server).keys() == before
    assert "secret" not in server.get("/metrics").text


def test_every_alert_is_named_for_its_server_and_says_what_to_do() -> None:
    text = (MONITORING / "alerts.yml").read_text()
    alerts = text.split("- alert: ")[1:]
    assert len(alerts) > 8
    for alert in alerts:
        assert alert.startswith("DurableStreams")
        assert "summary:" in alert
        assert "description:" in alert
        assert "severity:" in alert


def test_the_rules_and_the_dashboard_are_in_the_folder_that_the_document_names() -> None:
    linked = set(re.findall(r"\]\((monitoring/[\w.]+)\)", document()))
    assert linked == {f"monitoring/{path.name}" for path in Path(MONITORING).iterdir()}
