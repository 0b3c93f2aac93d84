"""Reads a wake stream, claims each wake, processes what is pending, and acks it; start as many as you like.

python examples/pull_worker.py wake/pool worker-1
"""

import json
import os
import sys
import urllib.error
import urllib.request
from typing import Any

STREAMS = os.environ.get("STREAMS", "http://127.0.0.1:4437/v1/stream")


def call(method: str, path: str, document: Any = None, token: str | None = None) -> tuple[Any, Any]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    body = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(f"{STREAMS}/{path}", body, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read() or b"null"), response.headers


def work(subscription: str, name: str) -> None:
    try:
        wake, _ = call("POST", f"__ds/subscriptions/{subscription}/claim", {"worker": name})
    except urllib.error.HTTPError as refused:
        if refused.code == 409:  # another worker has it, or nothing is pending any more
            return
        raise
    for stream in (stream for stream in wake["streams"] if stream["has_pending"]):
        events, _ = call("GET", f"{stream['path']}?offset={stream['acked_offset']}")
        print(*(f"{stream['path']} {event}" for event in events), sep="\n", flush=True)
    acks = [{"stream": stream["path"], "offset": stream["tail_offset"]} for stream in wake["streams"]]
    done = {"wake_id": wake["wake_id"], "generation": wake["generation"], "acks": acks, "done": True}
    call("POST", f"__ds/subscriptions/{subscription}/ack", done, wake["token"])


def run(wake_stream: str, name: str, offset: str = "-1") -> None:
    while True:
        events, headers = call("GET", f"{wake_stream}?offset={offset}&live=long-poll")
        offset = headers["Stream-Next-Offset"]
        for event in events or []:
            work(event["subscription_id"], name)


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2])
