"""Which journeys of the clients `make test` leaves to `make test-long`."""

from __future__ import annotations

from typing import Any, Final

import pytest

USUAL_OVER_TLS: Final = "text"
"""TLS ends below everything that knows what a stream holds."""


def pytest_itemcollected(item: pytest.Item) -> None:
    params: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    match params:
        case {"server": ("https", _), "kind": str(content)} if content != USUAL_OVER_TLS:
            item.add_marker(pytest.mark.long)
