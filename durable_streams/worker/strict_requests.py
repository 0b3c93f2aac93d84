"""gunicorn's own parser and response, where the RFCs ask for something else, and with a limit for the whole head.

Both worker classes use them, also above TLS: the classes take the place of gunicorn's in the process that serves.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from gunicorn.http import wsgi
from gunicorn.http.errors import LimitRequestHeaders, UnsupportedTransferCoding
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser

LINE_BYTES_MAX: Final = 16 * 1024
"""Of a request line: tokens travel in queries."""
HEAD_BYTES_MAX: Final = 64 * 1024
"""Of the lines behind it, where the configuration does not say."""


class StrictRequest(Request):  # type: ignore[misc]
    """A request that gunicorn reads, as every request is that is not plain."""

    head_bytes_max: ClassVar[int] = HEAD_BYTES_MAX
    """gunicorn looks through all that has come of a head at each piece that comes: this bounds the work too."""

    def parse(self, unreader: Any) -> Any:
        # gunicorn cuts its setting at 8190, and takes 0 for no limit.
        self.limit_request_line = min(self.cfg.limit_request_line or LINE_BYTES_MAX, LINE_BYTES_MAX)
        self.max_buffer_headers = self.head_bytes_max
        return super().parse(unreader)

    def parse_headers(self, data: bytes, from_trailer: bool = False) -> Any:
        """Raises LimitRequestHeaders, which is answered with 431."""
        if len(data) > self.head_bytes_max:
            raise LimitRequestHeaders(f"the head is longer than {self.head_bytes_max} bytes")
        return super().parse_headers(data, from_trailer)

    def set_body_reader(self) -> None:
        """Raises UnsupportedTransferCoding (501) for codings that gunicorn lets through and nobody undoes."""
        super().set_body_reader()
        for name, value in self.headers:
            if name == "TRANSFER-ENCODING" and value.strip(" \t").lower() != "chunked":
                raise UnsupportedTransferCoding(value)

    def should_close(self) -> bool:
        """RFC 9110 section 7.6.1: Connection is a list, and may be several headers; ``close`` anywhere closes."""
        if self.must_close or self.method == "CONNECT":
            return True
        options = {
            option.strip(" \t").lower()
            for name, value in self.headers
            if name == "CONNECTION"
            for option in value.split(",")
        }
        return "close" in options or (self.version <= (1, 0) and "keep-alive" not in options)


class CurrentResponse(wsgi.Response):  # type: ignore[misc]
    """The version of a response is the server's (RFC 9112 section 2.3); gunicorn repeats the request's."""

    def default_headers(self) -> list[str]:
        status_line, *others = super().default_headers()
        return [status_line.replace("HTTP/1.0", "HTTP/1.1", 1), *others]


def use_strict_requests() -> None:
    """From now on gunicorn reads and answers so in this process. Calling it twice is harmless."""
    RequestParser.mesg_class = StrictRequest
    wsgi.Response = CurrentResponse
