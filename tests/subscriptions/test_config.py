"""What a configuration may be, and when two are the same (section 6.2). Tests are named after the requirements."""

from __future__ import annotations

from typing import Any

import pytest

from durable_streams.protocol.subscriptions.config import (
    BEGINNING,
    LEASE_TTL_MS_DEFAULT,
    config_hash,
    parse_config,
)
from durable_streams.protocol.subscriptions.errors import InvalidRequest
from durable_streams.protocol.subscriptions.ids import PathRules, check_id, check_worker

PATHS = PathRules(1024, 8)
WEBHOOK: dict[str, Any] = {
    "type": "webhook",
    "pattern": "events/*",
    "webhook": {"url": "https://worker.example/hooks"},
}
PULL: dict[str, Any] = {"type": "pull-wake", "streams": ["a"], "wake_stream": "wake/pool"}


def hash_of(document: dict[str, Any]) -> str:
    return config_hash(parse_config(document, PATHS).config)


@pytest.mark.parametrize("name", ["/a/b/", "a/b", "//a/b"])
def test_r3_paths_are_relative_to_the_stream_root(name: str) -> None:
    assert parse_config(PULL | {"streams": [name]}, PATHS).config.streams == ("a/b",)


@pytest.mark.parametrize(
    "path", ["", "/", "a//b", "a/../b", "__ds", "__ds/subscriptions/x", "a\0b", "x" * 1025, 7]
)
def test_r3_what_no_stream_can_be_called_is_refused(path: Any) -> None:
    with pytest.raises(InvalidRequest, match="streams"):
        parse_config(PULL | {"streams": [path]}, PATHS)


@pytest.mark.parametrize("text", ["sub-1", "runner:7", "webhook:ab12", "a b", "\N{EURO SIGN}", "x" * 256])
def test_r4_an_id_is_what_the_client_chooses(text: str) -> None:
    assert check_id(text) == text


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a/b", "a\nb", "a\x7fb", "x" * 257, "\N{EURO SIGN}" * 86, "\ud800"]
)
def test_r4_an_id_that_would_be_another_path_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        check_id(text)


@pytest.mark.parametrize("worker", [None, 7, "", "x" * 257, "a\nb"])
def test_r72_a_worker_needs_a_name(worker: Any) -> None:
    with pytest.raises(InvalidRequest, match="worker"):
        check_worker(worker)


@pytest.mark.parametrize(
    "more", [{}, {"pattern": None}, {"pattern": "/"}, {"streams": []}, {"streams": None}]
)
def test_r10_pattern_or_streams_must_be_present(more: dict[str, Any]) -> None:
    document = {"type": "pull-wake", "wake_stream": "w"} | more
    with pytest.raises(InvalidRequest, match="pattern or streams is required"):
        parse_config(document, PATHS)


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ([], "JSON object"),
        ({}, "type"),
        (WEBHOOK | {"type": "push"}, "type"),
        (WEBHOOK | {"webhook": None}, "webhook.url"),
        (WEBHOOK | {"webhook": {"url": 7}}, "webhook.url"),
        (WEBHOOK | {"pattern": 7}, "pattern"),
        (WEBHOOK | {"pattern": "a//b"}, "pattern"),
        (WEBHOOK | {"pattern": "/".join("a" * 9)}, "pattern"),
        (WEBHOOK | {"streams": "a"}, "streams"),
        (WEBHOOK | {"description": 7}, "description"),
        (WEBHOOK | {"description": "\ud800"}, "description"),
        (WEBHOOK | {"description": "x" * 4097}, "description"),
        (PULL | {"wake_stream": None}, "wake_stream"),
        (PULL | {"wake_stream": "__ds/x"}, "wake_stream"),
        (PULL | {"lease_ttl_ms": 999}, "lease_ttl_ms"),
        (PULL | {"lease_ttl_ms": 600_001}, "lease_ttl_ms"),
        (PULL | {"lease_ttl_ms": 1000.5}, "lease_ttl_ms"),
        (PULL | {"lease_ttl_ms": "1000"}, "lease_ttl_ms"),
        (PULL | {"lease_ttl_ms": True}, "lease_ttl_ms"),
        (PULL | {"max_attempts": 0, "dead_letter_stream": "dead"}, "max_attempts"),
        (PULL | {"max_attempts": 3}, "dead_letter_stream"),
        (PULL | {"dead_letter_stream": "dead"}, "max_attempts"),
        (PULL | {"batch_ms": -1}, "batch_ms"),
        (PULL | {"batch_ms": 60_001}, "batch_ms"),
        (PULL | {"on_close": "yes"}, "on_close"),
        (PULL | {"paused": 1}, "paused"),
        (PULL | {"start": 0}, "start"),
        (PULL | {"start": "0_7", "pattern": "b/*"}, "start"),
        (PULL | {"start": "0_7", "streams": ["a", "b"]}, "start"),
    ],
)
def test_r10_bad_configurations_are_refused_and_the_field_is_named(document: Any, named: str) -> None:
    with pytest.raises(InvalidRequest, match=named):
        parse_config(document, PATHS)


def test_r10_bounds_and_the_default_of_the_lease() -> None:
    assert parse_config(PULL, PATHS).config.lease_ttl_ms == LEASE_TTL_MS_DEFAULT
    for lease in (1000, 600_000):
        assert parse_config(PULL | {"lease_ttl_ms": lease}, PATHS).config.lease_ttl_ms == lease


def test_r10_unknown_fields_and_those_of_the_other_type_are_ignored() -> None:
    assert hash_of(WEBHOOK | {"wake_stream": "w", "color": "red"}) == hash_of(WEBHOOK)
    assert hash_of(PULL | {"webhook": {"url": "http://10.0.0.1"}}) == hash_of(PULL)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (PULL | {"streams": ["b", "a", "b"]}, PULL | {"streams": ["/a", "b/"]}),
        (PULL | {"lease_ttl_ms": 30_000}, PULL),
        (PULL | {"lease_ttl_ms": None, "description": None, "pattern": None}, PULL),
        (WEBHOOK | {"pattern": "/events/*/"}, WEBHOOK),
        (PULL | {"batch_ms": 0, "on_close": False, "start": "tail"}, PULL),
        (PULL | {"paused": True}, PULL),
        (WEBHOOK | {"webhook": {"url": WEBHOOK["webhook"]["url"], "secret": "x"}}, WEBHOOK),
    ],
)
def test_r12_the_same_configuration_however_it_is_written(
    left: dict[str, Any], right: dict[str, Any]
) -> None:
    assert hash_of(left) == hash_of(right)


@pytest.mark.parametrize(
    "more",
    [
        {"type": "webhook", "webhook": {"url": "https://worker.example/"}},
        {"pattern": "b/*"},
        {"streams": ["a", "b"]},
        {"wake_stream": "wake/other"},
        {"lease_ttl_ms": 30_001},
        {"description": ""},
        {"max_attempts": 3, "dead_letter_stream": "dead"},
        {"batch_ms": 1},
        {"start": "beginning"},
        {"on_close": True},
    ],
)
def test_r12_every_field_makes_a_difference(more: dict[str, Any]) -> None:
    assert hash_of(PULL | more) != hash_of(PULL)


def test_r33_a_subscription_is_not_linked_to_what_it_writes() -> None:
    with pytest.raises(InvalidRequest, match="wake/pool"):
        parse_config(PULL | {"streams": ["a", "wake/pool"]}, PATHS)
    with pytest.raises(InvalidRequest, match="dead"):
        parse_config(WEBHOOK | {"streams": ["dead"], "max_attempts": 3, "dead_letter_stream": "dead"}, PATHS)


def test_extensions_are_off_unless_they_are_asked_for() -> None:
    config = parse_config(WEBHOOK, PATHS).config
    assert (config.max_attempts, config.dead_letter_stream) == (None, None)
    assert (config.batch_ms, config.start, config.on_close) == (0, "tail", False)
    assert parse_config(WEBHOOK, PATHS).paused is None
    asked = parse_config(WEBHOOK | {"start": "beginning", "paused": False}, PATHS)
    assert asked.config.start == BEGINNING
    assert asked.paused is False
