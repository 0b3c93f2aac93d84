"""The servers of tests/web."""

from tests.web.conftest import open_server

__all__ = ["open_server"]
