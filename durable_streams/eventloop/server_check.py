"""Whether the WSGI server of an embedding app can serve streams at all: found out at the first request, and logged."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import gevent

SEVERAL_PROCESSES: Final = (
    "the app runs in several processes, and each has a storage of its own that the others do not see: run one worker, "
    "or take PostgresStorage"
)
NO_GREENLETS: Final = (
    "the app's worker runs no greenlets: live reads hold up all other requests; use a gevent worker, such as "
    "gunicorn -k durable_streams.worker.StreamWorker"
)

log = logging.getLogger("durable_streams.web")


class ServerCheck:
    """Call it with the environ of each request; it looks at the first one. ``is_shared``: the storage is."""

    def __init__(self, is_shared: bool) -> None:
        self._is_shared = is_shared
        self._is_done = False

    def __call__(self, environ: Mapping[str, Any]) -> None:
        """Logs an ERROR for each thing that is wrong. Test clients, which name no server, may do as they like."""
        if self._is_done:
            return
        self._is_done = True
        if environ.get("wsgi.multiprocess") and not self._is_shared:
            log.error(SEVERAL_PROCESSES)
        if "SERVER_SOFTWARE" in environ and not isinstance(gevent.getcurrent(), gevent.Greenlet):
            log.error(NO_GREENLETS)
