"""Requests that are small for their client and much work for the server, and what each costs: `make bench-bombs`.

Every bomb has a server of its own, in memory mode and with the default limits but for those that its row lifts. The
program prints the table of docs/security.md: CPU time of the worker from the first byte of the bomb to the last answer,
and by how much its resident memory was larger at most than before. tests/server/test_bombs.py sends the same bombs and
checks that other clients are served meanwhile.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import brotli
import zstandard

ROOT: Final = Path(__file__).resolve().parent.parent
BODY_BYTES: Final = 10_000_000
READERS: Final = 20
TARGET: Final = "/v1/stream/bomb"
MESSAGES: Final = {"DS_LIMITS__MAX_MESSAGES_PER_REQUEST": "0"}
"""By default such a body is a 413 as soon as it has been counted."""
UP_TO_DATE: Final = b'"upToDate":true'
LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
HEAD_END: Final = b"\r\n\r\n"
START_SECONDS_MAX: Final = 60.0
ANSWER_SECONDS_MAX: Final = 600.0
_MIB: Final = 1 << 20
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")

Pieces = Sequence[bytes]


@dataclass(frozen=True)
class Bomb:
    """One kind of request. ``sent`` and ``before`` are made for the path of a stream."""

    title: str
    status: int
    sent: Callable[[str], Pieces]
    """The request as it goes over the wire, piece by piece."""
    stopped_by: str
    before: Callable[[str], Pieces] | None = None
    """A request that has to be answered before; 2xx."""
    until: bytes = HEAD_END
    """The last bytes of the answer that are waited for."""
    clients: int = 1
    """How many send it at the same time."""
    lifts: Mapping[str, str] = field(default_factory=dict)
    """Settings without which it would be refused at once."""
    is_work: bool = True
    """Accepted, or refused only after so much work that others must have been served in between."""


def request(method: str, target: str, body: bytes = b"", **headers: str) -> bytes:
    """A request in HTTP/1.1; underscores in the names of headers stand for hyphens."""
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if method in ("PUT", "POST"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def put(
    body: Callable[[], bytes], content_type: str = "application/json", **headers: str
) -> Callable[[str], Pieces]:
    return lambda target: [request("PUT", target, body(), Content_Type=content_type, **headers)]


def get(query: str = "", **headers: str) -> Callable[[str], Pieces]:
    return lambda target: [request("GET", target + query, **headers)]


def array(element: bytes, last: bytes, end: bytes = b"]") -> Callable[[], bytes]:
    """A JSON array of as many elements as a body has room for."""
    return lambda: b"[" + element * (BODY_BYTES // len(element)) + last + end


def random_text() -> bytes:
    """Text of which gzip saves a quarter with much work."""
    return base64.b64encode(random.Random(9).randbytes(BODY_BYTES * 3 // 4))


def fork(sub_offset: int) -> Callable[[str], Pieces]:
    headers = {"Stream_Fork_Offset": "-1", "Stream_Fork_Sub_Offset": str(sub_offset)}
    return lambda target: [request("PUT", f"{target}/{sub_offset}", Stream_Forked_From=target, **headers)]


def tiny_chunks(target: str) -> Pieces:
    """In two pieces, since a server works on chunks as they come: it may have done so with all but the last."""
    head = f"PUT {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    half = b"1\r\nx\r\n" * (BODY_BYTES // 20)
    return [head + half, half + b"0\r\n\r\n"]


def head_in_pieces(target: str) -> Pieces:
    """Of 60 KiB, which is allowed; one that is looked through from its start for every piece costs 30 MB of it."""
    head = request("GET", target, **{f"X-{number}": "x" * 700 for number in range(85)})
    return [head[start : start + 64] for start in range(0, len(head), 64)]


def long_head(target: str) -> Pieces:
    return [request("GET", target, **{f"X-{number}": "x" * 1000 for number in range(80)})]


MESSAGE_COUNT: Final = BODY_BYTES // 2 - 10
SPLITTING: Final = "turns for others; `limits.max_messages_per_request`"
FORKING: Final = "turns for others; `limits.max_stream_bytes`"
CATCHING_UP: Final = "events shared by readers, turns for others; `limits.max_connections_per_client`"
CODED: Final = (
    "no more is decoded than a body may have: `limits.max_request_body_bytes`; `limits.max_compressions`"
)
HEADS: Final = "`limits.max_head_bytes`"


def _json(title: str, status: int, body: Callable[[], bytes], **headers: str) -> Bomb:
    return Bomb(title, status, put(body, **headers), SPLITTING, lifts=MESSAGES)


def _coded(title: str, status: int, body: Callable[[], bytes], coding: str) -> Bomb:
    """Text; JSON in a coding is work of the same kind as without."""
    return Bomb(title, status, put(body, "text/plain", Content_Encoding=coding), CODED, is_work=False)


def _catch_up(title: str, content_type: str, body: Callable[[], bytes]) -> Bomb:
    return Bomb(
        title,
        200,
        get("?offset=-1&live=sse"),
        CATCHING_UP,
        put(body, content_type),
        until=UP_TO_DATE,
        clients=READERS,
    )


def _fork(title: str, status: int, sub_offset: int) -> Bomb:
    return Bomb(
        title,
        status,
        fork(sub_offset),
        FORKING,
        put(lambda: b"[" + b"1," * MESSAGE_COUNT + b"2]"),
        lifts=MESSAGES,
    )


def _coded_read(coding: str) -> Bomb:
    return Bomb(
        f"20 readers, {coding} of 10 MB of random text",
        200,
        get("?offset=-1", Accept_Encoding=coding),
        "`limits.max_compressions`, threads; pages that are asked for again are kept",
        put(random_text, "text/plain"),
        until=LAST_CHUNK,
        clients=READERS,
    )


BOMBS: Final = (
    _json("JSON: digits", 201, array(b"1,", b"1")),
    _json("JSON: empty objects", 201, array(b"{},", b"{}")),
    _json("JSON: lone surrogates", 201, array(rb'"\ud800",', b"1")),
    _json("JSON: digits without an end", 400, array(b"1,", b"", b"")),
    _json("JSON: empty objects with a last mistake", 400, array(b"{},", b"{]")),
    _json(
        "JSON: digits in gzip",
        201,
        lambda: gzip.compress(array(b"1,", b"1")(), mtime=0),
        Content_Encoding="gzip",
    ),
    _json(
        "JSON: digits in zstd", 201, lambda: zstandard.compress(array(b"1,", b"1")()), Content_Encoding="zstd"
    ),
    _fork("fork after 5 million messages", 201, MESSAGE_COUNT),
    _fork("fork beyond 5 million messages", 400, MESSAGE_COUNT + 2),
    _catch_up(
        "20 event streams: one message of 10 MB", "application/json", lambda: b'"' + b"x" * BODY_BYTES + b'"'
    ),
    _catch_up("20 event streams: line breaks", "text/plain", lambda: b"\n" * BODY_BYTES),
    _catch_up("20 event streams: carriage returns", "text/plain", lambda: b"\r" * BODY_BYTES),
    _coded_read("gzip"),
    _coded_read("zstd"),
    _coded("10 MB of zeros in gzip", 201, lambda: gzip.compress(bytes(BODY_BYTES), mtime=0), "gzip"),
    _coded("10 MB of zeros in zstd", 201, lambda: zstandard.compress(bytes(BODY_BYTES)), "zstd"),
    _coded("1 GB of zeros in gzip", 413, lambda: gzip.compress(bytes(100 * BODY_BYTES), 1, mtime=0), "gzip"),
    _coded("1 GB of zeros in zstd", 413, lambda: zstandard.compress(bytes(100 * BODY_BYTES)), "zstd"),
    _coded("10 MB of zeros in br", 201, lambda: brotli.compress(bytes(BODY_BYTES), quality=5), "br"),
    _coded("1 GB of zeros in br", 413, lambda: brotli.compress(bytes(100 * BODY_BYTES), quality=1), "br"),
    Bomb("1 MB in chunks of one byte", 201, tiny_chunks, "turns for others; `limits.max_request_body_bytes`"),
    Bomb("a head of 60 KiB in pieces of 64 bytes", 404, head_in_pieces, HEADS, is_work=False),
    Bomb("a head of 80 KB", 431, long_head, HEADS, is_work=False),
)


# -- measuring -------------------------------------------------------------------------------------------------------


class Worker:
    """The worker process of a server; Linux tells of it in /proc."""

    def __init__(self, master: int) -> None:
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        self._folder = Path("/proc") / children[0]

    def cpu_s(self) -> float:
        """User and system time so far, of all threads."""
        fields = (self._folder / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def resident_bytes(self, which: str) -> int:
        """``VmRSS``, or its peak ``VmHWM``."""
        lines = (self._folder / "status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(which))

    def forget_peak(self) -> None:
        (self._folder / "clear_refs").write_text("5")


@contextmanager
def serving(lifts: Mapping[str, str]) -> Iterator[tuple[int, Worker]]:
    """A server and its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("DS_")}
    environ |= {"DS_SERVER__PORT": str(port), "DS_STORAGE__MODE": "memory", "RUST_LOG": "error", **lifts}
    command = (sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app")
    process = subprocess.Popen(command, cwd=ROOT, env=environ)
    try:
        _await_ready(port)
        yield port, Worker(process.pid)
    finally:
        process.terminate()
        process.wait()


def _await_ready(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port)) as sock:
                send(sock, [request("GET", "/readyz")])
                if receive(sock, HEAD_END) == 200:
                    return
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def send(sock: socket.socket, pieces: Pieces) -> None:
    # Without this, small pieces would be sent together.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for piece in pieces:
        sock.sendall(piece)


def receive(sock: socket.socket, until: bytes) -> int:
    """The status of an answer, when ``until`` has been read. Raises ConnectionError when it ends before."""
    sock.settimeout(ANSWER_SECONDS_MAX)
    first = seen = b""
    while until not in seen:
        data = sock.recv(_MIB)
        if not data:
            raise ConnectionError(f"the answer ended after {seen[-100:]!r}")
        first = first or data
        seen = seen[-len(until) :] + data
    return int(first.split(b" ", 2)[1])


@dataclass(frozen=True)
class Cost:
    """What a bomb has cost the worker, and its clients."""

    cpu_s: float
    memory_bytes: int
    sent_bytes: int


def cost_of(bomb: Bomb) -> Cost:
    """Raises AssertionError when it is answered with another status."""
    with serving(bomb.lifts) as (port, worker), ExitStack() as connections:
        if bomb.before is not None:
            with socket.create_connection(("127.0.0.1", port)) as sock:
                send(sock, bomb.before(TARGET))
                assert receive(sock, HEAD_END) == 201
        pieces = bomb.sent(TARGET)
        sockets = [
            connections.enter_context(socket.create_connection(("127.0.0.1", port)))
            for _ in range(bomb.clients)
        ]
        cpu_s, resident = worker.cpu_s(), worker.resident_bytes("VmRSS")
        worker.forget_peak()
        for sock in sockets:
            send(sock, pieces)
        for sock in sockets:
            status = receive(sock, bomb.until)
            assert status == bomb.status, f"{bomb.title}: {status}"
        return Cost(
            worker.cpu_s() - cpu_s,
            max(0, worker.resident_bytes("VmHWM") - resident),
            bomb.clients * sum(map(len, pieces)),
        )


def row(bomb: Bomb, cost: Cost) -> str:
    """A line of the table."""
    sent, memory = _size(cost.sent_bytes), f"{cost.memory_bytes / _MIB:.0f} MiB"
    return f"| {bomb.title} | {bomb.status} | {sent} | {cost.cpu_s:.2f} s | {memory} | {bomb.stopped_by} |"


def _size(count: int) -> str:
    return f"{count / 1000:.1f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="bombs whose title has this text")
    only = parser.parse_args(arguments).only
    print("| bomb | answer | client sends | CPU | memory | what stops it |")
    print("| --- | --- | --- | --- | --- | --- |")
    for bomb in BOMBS:
        if only in bomb.title:
            print(row(bomb, cost_of(bomb)), flush=True)


if __name__ == "__main__":
    main()
