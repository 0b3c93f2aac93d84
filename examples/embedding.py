"""Streams inside one's own Flask app: pages and streams under one address, in one process.

    gunicorn --worker-class gevent examples.embedding:app

Any server that runs greenlets in one process will do; `python -m examples.embedding` starts gevent's own.
"""

from __future__ import annotations

from flask import Flask

from durable_streams import Config, InMemoryStorage, build_blueprint

PAGE = """<!doctype html>
<title>A guest book</title>
<ul id="entries"></ul>
<form id="form"><input id="entry" autofocus> <button>Sign</button></form>
<script>
const book = "/streams/guest-book"
const type = { "Content-Type": "application/json" }
// Creating a stream that is there already changes nothing, so every visitor may try.
fetch(book, { method: "PUT", headers: type }).then(() => {
  new EventSource(`${book}?offset=-1&live=sse`).addEventListener("data", (event) => {
    for (const { text } of JSON.parse(event.data)) {
      document.getElementById("entries").appendChild(document.createElement("li")).textContent = text
    }
  })
})
document.getElementById("form").addEventListener("submit", (event) => {
  event.preventDefault()
  const entry = document.getElementById("entry")
  fetch(book, { method: "POST", headers: type, body: JSON.stringify({ text: entry.value }) })
  entry.value = ""
})
</script>
"""


def create_app() -> Flask:
    """A guest book that every visitor sees grow."""
    app = Flask(__name__)
    app.register_blueprint(build_blueprint(InMemoryStorage(), Config()), url_prefix="/streams")

    @app.get("/")
    def page() -> str:
        return PAGE

    return app


app = create_app()


def main() -> None:
    """Serve on the loopback address until interrupted."""
    import signal

    import gevent
    from gevent import monkey
    from gevent.pywsgi import WSGIServer

    monkey.patch_all()
    server = WSGIServer(("127.0.0.1", 5000), app)
    gevent.signal_handler(signal.SIGINT, server.stop)
    print("http://127.0.0.1:5000")
    server.serve_forever()


if __name__ == "__main__":
    main()
