"""The server as a gunicorn application that needs no file beside the installed package."""

from __future__ import annotations

from typing import Any

from gunicorn.app.base import BaseApplication

from durable_streams.config import ConfigLoadOptions
from durable_streams.serving.gunicorn_settings import configure, served_config


class ServerApplication(BaseApplication):  # type: ignore[misc]
    """What `durable-streams-server serve` runs. `run()` ends the process when the server has ended."""

    def __init__(self, options: ConfigLoadOptions) -> None:
        self._options = options
        super().__init__(prog="durable-streams-server")

    def load_config(self) -> None:
        for name, value in configure(self._options).items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """The WSGI application. gunicorn calls this in the worker."""
        from durable_streams.app import create_app

        return create_app(served_config())
