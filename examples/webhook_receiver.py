"""Receives the wakes of a subscription, verifies them, and processes what is pending.

flask --app examples/webhook_receiver.py run --port 5001
"""

import json
import os
import time
import urllib.request
from base64 import urlsafe_b64decode
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from flask import Flask, abort, request

STREAMS = os.environ.get("STREAMS", "http://127.0.0.1:4437/v1/stream")
KEYS: dict[str, Ed25519PublicKey] = {}
app = Flask(__name__)


def decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def fetch(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response)


def verify(body: bytes, header: str) -> None:
    """Raises KeyError, ValueError or InvalidSignature unless the server has sent exactly these bytes just now."""
    said = dict(part.split("=", 1) for part in header.split(","))
    if abs(time.time() - int(said["t"])) > 300:
        raise ValueError("too old")
    if said["kid"] not in KEYS:
        for key in fetch(f"{STREAMS}/__ds/jwks.json")["keys"]:
            KEYS[key["kid"]] = Ed25519PublicKey.from_public_bytes(decode(key["x"]))
    KEYS[said["kid"]].verify(decode(said["ed25519"]), said["t"].encode() + b"." + body)


@app.post("/hook")
def hook() -> dict[str, bool]:
    try:
        verify(request.get_data(), request.headers["Webhook-Signature"])
    except (KeyError, ValueError, InvalidSignature):
        abort(401)
    for stream in (stream for stream in request.get_json()["streams"] if stream["has_pending"]):
        events = fetch(f"{STREAMS}/{stream['path']}?offset={stream['acked_offset']}")
        print(stream["path"], events, flush=True)
    return {"done": True}
