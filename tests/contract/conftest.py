"""One suite, every storage: each test of this folder that asks for ``streams`` runs once for every kind of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from durable_streams.streams.batch import Limits
from tests.contract.driving import DURABLE_KINDS, KINDS, Kind, Streams

OpenStreams = Callable[..., Streams]

REOPENED_USUALLY = ("file-durable",)
"""Kinds that `make test` reopens after every change; `make test-long` does so with the others."""


@pytest.fixture(params=[kind.param() for kind in KINDS])
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@pytest.fixture
def open_streams(kind: Kind, tmp_path: Path) -> Iterator[OpenStreams]:
    """Opens an empty storage of the kind; the arguments are those of ``Limits``."""
    opened: list[Streams] = []

    def open_one(**limits: Any) -> Streams:
        opened.append(Streams(kind, tmp_path / f"{len(opened)}", Limits(**limits)))
        return opened[-1]

    yield open_one
    for streams in opened:
        streams.close()


def once(kind: Kind) -> Any:
    return pytest.param((kind, False), id=kind.name, marks=kind.param().marks)


def reopened(kind: Kind) -> Any:
    marks = [] if kind.name in REOPENED_USUALLY else [pytest.mark.long]
    return pytest.param((kind, True), id=f"{kind.name}-reopened", marks=marks)


@pytest.fixture(params=[*map(once, KINDS), *map(reopened, DURABLE_KINDS)])
def streams(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Streams]:
    """An empty storage of every kind; and of those that last, one that is reopened after every change."""
    kind, reopens = request.param
    streams = Streams(kind, tmp_path / "data", Limits(), reopens=reopens)
    yield streams
    streams.close()


@pytest.fixture(params=[kind.param() for kind in DURABLE_KINDS])
def lasting(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Streams]:
    """An empty storage of every kind that lasts, for tests that reopen it themselves."""
    streams = Streams(request.param, tmp_path / "data", Limits())
    yield streams
    streams.close()
