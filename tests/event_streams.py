"""Server-Sent Events as a reader by the book takes them apart (HTML, "Interpreting an event stream")."""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass
from typing import Any

_LINE = re.compile(r"\r\n|\n|\r(?!\Z)")


@dataclass(frozen=True)
class Event:
    kind: str
    data: str
    id: str

    @property
    def fields(self) -> dict[str, Any]:
        """The JSON object of a control event."""
        assert self.kind == "control"
        parsed: dict[str, Any] = json.loads(self.data)
        return parsed


class EventStream:
    """Fed with bytes as they come, cut anywhere; gives the events that are complete."""

    def __init__(self) -> None:
        self.comments: list[str] = []
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._started = False
        self._kind = ""
        self._data: list[str] = []
        self._id = ""

    def feed(self, received: bytes) -> list[Event]:
        self._text += self._decoder.decode(received)
        if not self._started and self._text:
            self._started = True
            self._text = self._text.removeprefix("\N{BOM}")
        events: list[Event] = []
        while found := _LINE.search(self._text):
            line, self._text = self._text[: found.start()], self._text[found.end() :]
            if line:
                self._take_field(line)
            elif (event := self._dispatch()) is not None:
                events.append(event)
        return events

    def _take_field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name:
            self.comments.append(value)
        elif name == "event":
            self._kind = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value

    def _dispatch(self) -> Event | None:
        kind, data = self._kind or "message", self._data
        self._kind, self._data = "", []
        return Event(kind, "\n".join(data), self._id) if data else None
