"""Reads a whole stream with the official Python client, in one session that is not live.

Arguments: KIND (text, bytes, json), URL, RESULT file. It imports nothing of the server, as `python_client.py`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import httpx

from durable_streams import stream


def main() -> None:
    kind, url, result_path = sys.argv[1:]
    with (
        httpx.Client(timeout=180.0) as client,
        stream(url, offset="-1", live=False, client=client) as session,
    ):
        if kind == "json":
            found = json.dumps(session.read_json(), separators=(",", ":")).encode()
        else:
            found = session.read_text().encode() if kind == "text" else session.read_bytes()
    Path(result_path).write_bytes(found)


if __name__ == "__main__":
    main()
