"""The checks before listening, and gunicorn's settings, without starting anything."""

from __future__ import annotations

import resource
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from gunicorn.workers.ggevent import GeventWorker

from durable_streams.config import (
    Config,
    ConfigLoadOptions,
    LimitSettings,
    ServerSettings,
    StorageSettings,
    TlsSettings,
)
from durable_streams.serving import configure, gunicorn_settings, served_config, start_checks
from durable_streams.serving.application import ServerApplication
from durable_streams.serving.served import SERVING
from durable_streams.telemetry.logs import remove_logging
from durable_streams.worker import BoundedGeventWorker, StreamWorker


@pytest.fixture
def forget_served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No server runs in this process, before and after."""
    monkeypatch.setattr(SERVING, "served", None)
    monkeypatch.setattr(SERVING, "options", None)
    monkeypatch.chdir(tmp_path)
    yield
    remove_logging()


def options(**environ: str) -> ConfigLoadOptions:
    return ConfigLoadOptions(environ=environ, root="/nonexistent")


def test_the_settings_reach_gunicorn(tmp_path: Path) -> None:
    config = Config(
        server=ServerSettings(host="::1", port=81, keepalive_secs=3, shutdown_grace_secs=0.2, backlog=9),
        tls=TlsSettings(cert_path=tmp_path / "c.pem", key_path=tmp_path / "k.pem"),
    )
    settings = gunicorn_settings.gunicorn_settings(config)
    assert settings["bind"] == ["[::1]:81"]
    assert (settings["keepalive"], settings["graceful_timeout"], settings["backlog"]) == (3, 1, 9)
    assert (settings["certfile"], settings["keyfile"]) == (str(tmp_path / "c.pem"), str(tmp_path / "k.pem"))
    assert settings["accesslog"] is None
    assert "workers" not in settings


@pytest.mark.usefixtures("forget_served")
def test_gunicorn_knows_every_setting_by_name() -> None:
    application = ServerApplication(options(DS_SERVER__HOST="127.0.0.1", DS_SERVER__PORT="81"))
    assert application.cfg.address == [("127.0.0.1", 81)]
    assert application.cfg.http_parser == "python"
    for name in gunicorn_settings.gunicorn_settings(Config()):
        assert name in application.cfg.settings


@pytest.mark.parametrize(
    ("addresses", "is_refused"),
    [
        ([("127.0.0.1", 1)], False),
        ([("::1", 1)], False),
        ([("localhost", 1)], False),
        (["unix:/run/ds.sock"], False),
        ([("0.0.0.0", 1)], True),
        ([("::", 1)], True),
        ([("", 1)], True),
        ([("10.0.0.1", 1)], True),
        ([("streams.example", 1)], True),
        ([("127.0.0.1", 1), ("10.0.0.1", 1)], True),
    ],
)
def test_the_admin_api_needs_access_control_or_loopback(addresses: list[object], is_refused: bool) -> None:
    cfg = SimpleNamespace(address=addresses)
    on = Config.model_validate({"admin": {"enabled": True}})
    reason = start_checks.open_admin(cfg, on)
    assert (reason is not None) == is_refused
    if reason is not None:
        assert "auth.mode" in reason
    protected = Config.model_validate({"admin": {"enabled": True}, "auth": {"mode": "tokens"}})
    assert start_checks.open_admin(cfg, protected) is None
    assert start_checks.open_admin(cfg, Config()) is None


@pytest.mark.usefixtures("forget_served")
def test_a_worker_serves_the_configuration_that_was_checked() -> None:
    configure(options(DS_LIMITS__MAX_READ_BYTES="7"))
    assert served_config().limits.max_read_bytes == 7


@pytest.mark.usefixtures("forget_served")
def test_under_another_server_the_configuration_is_loaded_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DS_LIMITS__MAX_READ_BYTES", "9")
    assert served_config().limits.max_read_bytes == 9


def test_a_second_worker_is_taken_back_while_running() -> None:
    changed: dict[str, int] = {}
    cfg = SimpleNamespace(set=lambda name, value: changed.update({name: value}))
    arbiter = SimpleNamespace(cfg=cfg, _num_workers=2)
    gunicorn_settings.keep_one_worker(arbiter, 2, 1)
    assert arbiter._num_workers == 1
    assert changed == {"workers": 1}


def test_the_first_count_of_workers_is_left_for_the_check_before_listening() -> None:
    arbiter = SimpleNamespace(_num_workers=2)
    gunicorn_settings.keep_one_worker(arbiter, 2, None)
    assert arbiter._num_workers == 2


def test_a_free_port_has_no_obstacle_and_is_free_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupant:
        port = occupant.getsockname()[1]
        assert "is in use" in str(start_checks.address_obstacle("127.0.0.1", port))
    assert start_checks.address_obstacle("127.0.0.1", port) is None
    assert start_checks.address_obstacle("127.0.0.1", port) is None


def test_a_port_that_becomes_free_is_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupant:
        port = occupant.getsockname()[1]
        threading.Timer(0.2, occupant.close).start()
        assert start_checks.address_obstacle("127.0.0.1", port) is None


def test_the_sign_of_life_goes_where_something_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    on_disk = Config(storage=StorageSettings(mode="file-durable", data_dir=data))
    writable = {start_checks.SHARED_MEMORY, str(tmp_path), str(data)}
    monkeypatch.setattr(start_checks, "_is_writable", lambda folder: folder in writable)
    monkeypatch.setattr(start_checks, "_temporary_folders", lambda: [str(tmp_path)])
    for expected in (start_checks.SHARED_MEMORY, str(tmp_path), str(data)):
        assert start_checks.heartbeat_folder(on_disk) == expected
        writable.remove(expected)
    assert start_checks.heartbeat_folder(on_disk) is None
    writable.add(str(data))
    assert start_checks.heartbeat_folder(Config()) is None


def test_a_port_that_needs_a_privilege_says_so() -> None:
    reason = start_checks._plain_reason(PermissionError(13, "Permission denied"))
    assert "below 1024" in reason


@pytest.mark.parametrize("inherited", ["LISTENERS", "master_pid", "LISTEN_FDS", "reuse_port"])
def test_sockets_that_are_handed_over_are_not_probed(inherited: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as occupant:
        cfg = SimpleNamespace(reuse_port=False, address=[occupant.getsockname()])
        arbiter = SimpleNamespace(LISTENERS=[], master_pid=0, cfg=cfg)
        assert start_checks.listening_obstacle(arbiter) is not None
        if inherited == "LISTEN_FDS":
            monkeypatch.setenv("LISTEN_FDS", "1")
        else:
            setattr(cfg if inherited == "reuse_port" else arbiter, inherited, True)
        assert start_checks.listening_obstacle(arbiter) is None


def test_a_unix_socket_is_left_to_gunicorn() -> None:
    cfg = SimpleNamespace(reuse_port=False, address=["/run/streams.sock"])
    assert start_checks.listening_obstacle(SimpleNamespace(LISTENERS=[], master_pid=0, cfg=cfg)) is None


def test_the_address_of_a_listener_is_the_one_that_it_really_has(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert start_checks.listener_url(listener, "https") == f"https://127.0.0.1:{port}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        assert start_checks.listener_url(listener, "http") == f"unix:{tmp_path / 's'}"


@pytest.mark.parametrize(
    ("host", "warned"),
    [
        ("0.0.0.0", True),
        ("::", True),
        ("127.0.0.1", False),
        ("localhost", False),
        ("192.0.2.1", False),
    ],
)
def test_listening_on_every_address_is_warned_of(host: str, warned: bool) -> None:
    found = start_checks.exposure(SimpleNamespace(address=[(host, 4437)]))
    assert (found is not None) == warned
    assert found is None or found.startswith(f"{host} is every address of this machine")


def test_a_unix_socket_is_reached_by_this_machine_alone() -> None:
    assert start_checks.exposure(SimpleNamespace(address=["/run/streams.sock"])) is None


@pytest.mark.parametrize("limit", [0, 5])
def test_what_gunicorns_own_worker_does_not_do_is_said(limit: int) -> None:
    config = Config(limits=LimitSettings(max_connections_per_client=limit))
    for ours in (StreamWorker, BoundedGeventWorker):
        assert start_checks.no_admission(SimpleNamespace(worker_class=ours), config) is None
    found = start_checks.no_admission(
        SimpleNamespace(worker_class=GeventWorker, worker_class_str="gevent", worker_connections=7), config
    )
    assert found is not None
    assert "worker class gevent: when server.worker_connections = 7 are taken" in found
    assert ("limits.max_connections_per_client = 5 does not hold" in found) == (limit == 5)


# soft and hard limit before, what is set, whether a shortage is reported, for 1000 connections (2024 files)
LIMITS = [
    ((4096, 8192), None, False),
    ((1024, 8192), (2024, 8192), False),
    ((1024, resource.RLIM_INFINITY), (2024, resource.RLIM_INFINITY), False),
    ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None, False),
    ((256, 1500), (1500, 1500), True),
]


@pytest.mark.parametrize(("before", "after", "is_short"), LIMITS)
def test_the_limit_of_open_files_is_raised_as_far_as_it_goes(
    monkeypatch: pytest.MonkeyPatch,
    before: tuple[int, int],
    after: tuple[int, int] | None,
    is_short: bool,
) -> None:
    changes: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: before)
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: changes.append(limits))
    report = start_checks.raise_descriptor_limit(1000)
    assert changes == ([] if after is None else [after])
    assert (report is not None) == is_short
    assert report is None or "allows 1500 open files" in report
