"""The example's chat with a model that a test leads: it says a word when it is told to, at `POST /say?word=...`."""

from __future__ import annotations

from collections.abc import Iterator

from flask import request
from gevent.queue import Queue

from examples.chat import create_app

words: Queue[str | None] = Queue()


def told(prompt: str) -> Iterator[str]:
    while (word := words.get()) is not None:
        yield word


app = create_app(told)


@app.post("/say")
def say() -> tuple[str, int]:
    words.put(request.args.get("word"))
    return "", 204
