"""The engine that a test runs on: every mode that keeps its streams on disk, with the same calls for all."""

from __future__ import annotations

import pytest

from tests.engines.engine import ENGINES, Engine


@pytest.fixture(params=ENGINES, ids=lambda engine: str(engine.mode.name))
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each of them."""
    found: Engine = request.param
    return found
