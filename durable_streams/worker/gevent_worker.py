"""gunicorn's gevent worker with the limits on connections that StreamWorker has."""

from __future__ import annotations

from functools import partial
from typing import Any

from gunicorn import util
from gunicorn.http import get_parser
from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.workers.ggevent import GeventWorker

from durable_streams.worker.admission import POOL_SPARE, PROBES, Admission
from durable_streams.worker.connections import LINGER_S, end, linger


class BoundedGeventWorker(GeventWorker):  # type: ignore[misc]
    """`server.worker_class = "gevent"`. TLS handshakes take place before a connection is counted."""

    worker_connections: int
    admission: Admission | None = None
    """Set before ``run``, where a client has a limit of its own."""

    def run(self) -> None:
        """gunicorn's own loop, whose pool has room for connections beyond the limits."""
        self.admission = self.admission or Admission(self.worker_connections)
        self.worker_connections += POOL_SPARE
        super().run()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve a connection, or answer it as one that is beyond a limit."""
        assert self.admission is not None, "run() has made it"
        beyond = self.admission.enter(addr)
        try:
            if beyond is None:
                super().handle(listener, client, addr)
                return
            client.setblocking(True)
            with self.admission.answering(partial(end, client)):
                self._answer_beyond(listener, client, addr, beyond)
        except (OSError, NoMoreData, StopIteration) as exc:
            self.log.debug("a connection beyond the limit has broken: %s", exc)
        finally:
            self.admission.leave(addr)
            util.close(client)

    def _answer_beyond(self, listener: Any, client: Any, addr: Any, limit: str) -> None:
        try:
            request = next(get_parser(self.cfg, client, addr))
        except ParseException as exc:
            self.handle_error(None, client, addr, exc)
        else:
            if request.path in PROBES:
                request.force_close()
                self.handle_request(listener.getsockname(), request, client, addr)
                return
            util.write_error(client, 503, "Service Unavailable", f"{limit} is reached")
        linger(client, LINGER_S)
