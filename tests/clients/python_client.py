"""Carries a file through a stream with the official Python client: creates, writes, tails, leaves, resumes.

Run by the interpreter of an environment that holds the client; it imports nothing of the server, whose
package has the same import name. Arguments: MODE (catch-up, long-poll, sse), KIND (text, json), URL, SOURCE
file, RESULT file. Of JSON the text that the client hands on is written beside the result.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from durable_streams import DurableStream, stream

PIECE_SIZE = 4001
TIMEOUT_SECONDS = 60.0

CONTENT_TYPES = {"text": "text/plain; charset=utf-8", "json": "application/json"}


def pieces_of(kind: str, mode: str, source: bytes) -> list[Any]:
    """What is appended, one request each. Bytes are cut anywhere, but for SSE, which carries characters."""
    if kind == "json":
        return [json.loads(line) for line in source.decode().split("\n")[:-1]]
    whole: Any = source.decode() if mode == "sse" else source
    return [whole[at : at + PIECE_SIZE] for at in range(0, len(whole), PIECE_SIZE)]


def write(handle: DurableStream, pieces: list[Any]) -> None:
    """Append the pieces in order."""
    for piece in pieces:
        handle.append(piece)


class Reader:
    """What has been read so far, and the offset behind it."""

    def __init__(self, url: str, mode: str, kind: str) -> None:
        self.url = url
        self.mode = mode
        self.kind = kind
        self.offset = "-1"
        self.items: list[Any] = []
        self.size = 0

    def read_while(self, wanted: Callable[[], bool], began: Callable[[], None] = lambda: None) -> None:
        """Follow the stream, over as many sessions as the server makes of it, while more is wanted."""
        while wanted():
            with stream(self.url, offset=self.offset, live=self._live(), client=client) as session:
                began()
                for event in self._events(session):
                    self._take(event)
                    if not wanted():
                        return
            if self.mode == "catch-up":
                return

    def texts(self) -> list[str]:
        """What those get who take the text of a page and not its values."""
        texts, offset, is_all = [], "-1", False
        while not is_all:
            with stream(self.url, offset=offset, live=False, client=client) as session:
                for event in session.iter_events(mode="text"):
                    texts.append(event.data)
                    offset, is_all = event.next_offset, event.up_to_date
        return texts

    def _live(self) -> Any:
        return False if self.mode == "catch-up" else self.mode

    def _events(self, session: Any) -> Iterator[Any]:
        if self.kind == "json":
            events: Iterator[Any] = session.iter_events(mode="json")
        else:
            events = session.iter_events(mode="text" if self.mode == "sse" else "bytes")
        return events

    def _take(self, event: Any) -> None:
        data = event.data
        if self.kind == "json":
            self.items.extend(data)
            self.size += len(data)
        else:
            piece = data.encode() if isinstance(data, str) else data
            self.items.append(piece)
            self.size += len(piece)
        self.offset = event.next_offset

    def result(self) -> bytes:
        if self.kind == "text":
            return b"".join(self.items)
        return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in self.items).encode()


def carry_by_catching_up(handle: DurableStream, pieces: list[Any], reader: Reader) -> None:
    """Write half, read it, write the rest, and read on from the offset that was kept."""
    half = len(pieces) // 2
    write(handle, pieces[:half])
    reader.read_while(lambda: True)
    if not reader.size:
        raise SystemExit("the first half was not there to be read")
    write(handle, pieces[half:])
    reader.read_while(lambda: True)


def carry_by_tailing(handle: DurableStream, pieces: list[Any], reader: Reader, total: int) -> None:
    """Read while another thread writes; leave half-way, and resume in a new session until all is there."""
    tailing, resumed = threading.Event(), threading.Event()
    failures: list[BaseException] = []
    # The last third is written only after the reader has left and come back.
    pause = len(pieces) * 2 // 3

    def write_when_tailing() -> None:
        try:
            tailing.wait(TIMEOUT_SECONDS)
            write(handle, pieces[:pause])
            resumed.wait(TIMEOUT_SECONDS)
            write(handle, pieces[pause:])
        except BaseException as failure:
            failures.append(failure)
            raise

    writer = threading.Thread(target=write_when_tailing, daemon=True)
    writer.start()
    # A long-poll on the empty stream is answered only once something is written.
    if reader.mode == "long-poll":
        tailing.set()
    reader.read_while(lambda: reader.size < total // 2, began=tailing.set)
    resumed.set()
    reader.read_while(lambda: reader.size < total)
    writer.join(TIMEOUT_SECONDS)
    if failures:
        raise SystemExit(f"the writer failed: {failures}")


def main() -> None:
    mode, kind, url, source_path, result_path = sys.argv[1:]
    source = Path(source_path).read_bytes()
    handle = DurableStream.create(url, content_type=CONTENT_TYPES[kind], client=client)
    pieces = pieces_of(kind, mode, source)
    reader = Reader(url, mode, kind)
    if mode == "catch-up":
        carry_by_catching_up(handle, pieces, reader)
    else:
        carry_by_tailing(handle, pieces, reader, len(source) if kind == "text" else len(pieces))
    Path(result_path).write_bytes(reader.result())
    if kind == "json":
        Path(f"{result_path}.texts").write_text(json.dumps(reader.texts()), encoding="utf-8")
    print(json.dumps({"offset": reader.offset, "tail": handle.head().offset}))


if __name__ == "__main__":
    with httpx.Client(timeout=TIMEOUT_SECONDS) as client:
        main()
