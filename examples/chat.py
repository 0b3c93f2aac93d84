"""A chat that survives a refresh, a lost connection and a second tab: its page shows what its stream holds.

    gunicorn --worker-class gevent examples.chat:app

Any server that runs greenlets in one process will do; `python -m examples.chat` starts gevent's own.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
from flask import Flask, abort, render_template, request, session

from durable_streams import Exchange, Forbidden, InMemoryStorage, Streams, build_blueprint

Model = Callable[[str], Iterator[str]]


def echo(prompt: str) -> Iterator[str]:
    """Stands for a language model: the parts of an answer, one after the other."""
    for word in f"You said: {prompt}".split():
        gevent.sleep(0.15)
        yield word + " "


def own_chat_only(exchange: Exchange) -> None:
    """The gate: a browser reads the chat of its own session, and nothing else."""
    if exchange.name != session.get("chat"):
        raise Forbidden("This chat belongs to somebody else")


def create_app(model: Model = echo) -> Flask:
    """The chat; browsers read streams over HTTP, and only this program writes to them."""
    app = Flask(__name__, template_folder=str(Path(__file__).parent))
    app.secret_key = secrets.token_bytes()
    blueprint = build_blueprint(InMemoryStorage(), gates=[own_chat_only], read_only=True)
    app.register_blueprint(blueprint, url_prefix="/streams")
    streams = blueprint.streams

    @app.get("/")
    def page() -> str:
        name = session.setdefault("chat", f"chats/{secrets.token_urlsafe()}")
        # Creating what is there already changes nothing, so a refresh may do it again.
        streams.create(name, "application/json", ttl_s=86_400)
        return render_template("chat.html", stream=f"/streams/{name}")

    @app.post("/messages")
    def send() -> tuple[str, int]:
        name, text = session.get("chat"), request.form.get("text", "").strip()
        if name is None or not text:
            abort(400)
        streams.append_json(name, {"id": secrets.token_hex(8), "role": "user", "part": text, "done": True})
        # In a greenlet of its own: the answer goes on, whoever reads it or leaves.
        gevent.spawn(answer, streams, name, model(text))
        return "", 202

    return app


def answer(streams: Streams, name: str, parts: Iterator[str]) -> None:
    """Append each part of an answer as soon as there is one."""
    message = {"id": secrets.token_hex(8), "role": "assistant"}
    for part in parts:
        streams.append_json(name, {**message, "part": part})
    streams.append_json(name, {**message, "done": True})


app = create_app()


def main() -> None:
    """Serve on the loopback address until interrupted."""
    import signal

    from gevent.pywsgi import WSGIServer

    server = WSGIServer(("127.0.0.1", 5000), app)
    gevent.signal_handler(signal.SIGINT, server.stop)
    print("http://127.0.0.1:5000")
    server.serve_forever()


if __name__ == "__main__":
    main()
