"""A client that speaks bytes: for requests that no HTTP library would send, and answers that never end."""

from __future__ import annotations

import socket
from types import TracebackType

ANSWER_SECONDS_MAX = 120.0
ANSWER_BYTES_MAX = 10_000_000

LAST_CHUNK = b"\r\n0\r\n\r\n"


class Exchange:
    """One connection. All that has been received stays in `seen`."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS_MAX)
        self.seen = b""

    def __enter__(self) -> Exchange:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def send_request(self, method: str, target: str, body: bytes = b"", **headers: str) -> None:
        """One request with the given headers, underscores in whose names stand for hyphens."""
        lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode() + body)

    def stop_sending(self) -> None:
        """Half-close: the server sees the end of what was sent, and can still answer."""
        self._socket.shutdown(socket.SHUT_WR)

    def read_until(self, mark: bytes) -> bytes:
        """Everything up to and with `mark`; what follows is kept for the next read."""
        while mark not in self.seen:
            self._receive()
        end = self.seen.index(mark) + len(mark)
        found, self.seen = self.seen[:end], self.seen[end:]
        return found

    def read_answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers in lower case, and body of an answer that says how long it is."""
        head = self.read_until(b"\r\n\r\n").decode("latin-1")
        status_line, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
        length = int(headers.get("content-length", "0"))
        while len(self.seen) < length:
            self._receive()
        body, self.seen = self.seen[:length], self.seen[length:]
        return int(status_line.split()[1]), headers, body

    def read_past(self, mark: bytes) -> None:
        """Leave out everything up to and with `mark`, however much it is."""
        while mark not in self.seen:
            self.seen = self.seen[-len(mark) :]
            self._receive()
        self.read_until(mark)

    def read_to_end(self) -> bytes:
        """Everything up to the last chunk of an answer in chunks; the connection itself may go on."""
        return self.read_until(LAST_CHUNK)

    def _receive(self) -> None:
        data = self._socket.recv(65_536)
        if not data:
            raise ConnectionError(f"the server closed the connection after {self.seen[-200:]!r}")
        self.seen += data
        if len(self.seen) > ANSWER_BYTES_MAX:
            raise OverflowError(f"an answer without end: {self.seen[:200]!r} ... {self.seen[-200:]!r}")
