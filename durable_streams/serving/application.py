"""The server as a gunicorn application that needs no file beside the installed package."""

from __future__ import annotations

from typing import Any

from gunicorn.app.base import BaseApplication

from durable_streams.config import ConfigLoadOptions
from durable_streams.serving.gunicorn_settings import configure, served_config
from durable_streams.startup import Phase, refuse_start


class ServerApplication(BaseApplication):  # type: ignore[misc]
    """What `durable-streams-server serve` runs. `run()` ends the process when the server has ended."""

    def __init__(self, options: ConfigLoadOptions) -> None:
        self._options = options
        super().__init__(prog="durable-streams-server")

    def load_config(self) -> None:
        for name, value in configure(self._options).items():
            self.cfg.set(name, value)
        for name, value in self._arguments_of_environment().items():
            self.cfg.set(name, value)

    def _arguments_of_environment(self) -> dict[str, Any]:
        """The options in GUNICORN_CMD_ARGS, which override everything else, as under the command `gunicorn`."""
        parser = self.cfg.parser()
        parser.usage = "options of gunicorn in GUNICORN_CMD_ARGS"
        given = vars(parser.parse_args(self.cfg.get_cmd_args_from_env()))
        if given.pop("config", None) or given.pop("args", None):
            refuse_start(
                Phase.VALIDATE_CONFIG,
                "GUNICORN_CMD_ARGS names a file of settings or an application: use the command gunicorn for those",
            )
        return {name: value for name, value in given.items() if value is not None}

    def load(self) -> Any:
        """The WSGI application. gunicorn calls this in the worker."""
        from durable_streams.app import create_app

        return create_app(served_config())
