"""The example of docs/access.md: Flask-Login decides, and each user has a folder."""

from __future__ import annotations

import re
from typing import Any

from durable_streams.access import SCOPES
from tests.servers import ROOT

PAGE = (ROOT / "docs" / "access.md").read_text()


def test_flask_login_guards_streams_as_the_page_shows() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {"__name__": "example"}
    exec(block, names)
    app = names["app"]
    stranger, ann, bob = (app.test_client() for _ in range(3))
    assert stranger.put("/streams/users/ann/notes").status_code == 401
    assert ann.post("/login/ann").data == b"welcome"
    bob.post("/login/bob")
    assert ann.put("/streams/users/ann/notes", data=b"x", content_type="text/plain").status_code == 201
    assert ann.get("/streams/users/ann/notes?offset=-1").data == b"x"
    refused = bob.get("/streams/users/ann/notes?offset=-1")
    assert (refused.status_code, refused.json["code"]) == (403, "FORBIDDEN")
    fork = {"Stream-Forked-From": "/streams/users/ann/notes"}
    assert bob.put("/streams/users/bob/fork", headers=fork).status_code == 403
    app.extensions["durable_streams"].close()


def test_the_page_has_each_scope() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.split("## Scopes")[1].split("## Refusals")[0], re.MULTILINE)
    assert tuple(rows) == SCOPES
