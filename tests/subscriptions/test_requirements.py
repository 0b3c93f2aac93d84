"""Every requirement of sections 6, 7 and 12.8 to 12.11, in one table: each has a test that names it.

A test of requirement 56 is called ``test_r56_...``; a failure window of a crash is a story ``w04_...`` of
test_crashes.py. Tests whose names begin with a ``d`` and a number belong to a decision where the protocol is silent.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.subscriptions.test_crashes import STORIES

REQUIREMENTS = {
    # Routing and addressing
    1: "`__ds` is routed before streams, for every method and spelling",
    2: "no stream has `__ds` as its first segment; `a/__ds` and `__dsx` are ordinary",
    3: "paths in bodies and answers are relative to the stream root",
    4: "the client chooses the id",
    5: "one durable cursor for each subscription and stream",
    6: "a link of both kinds is shown as explicit; without the explicit one the other stays, with its cursor",
    # Create, confirm, read, delete
    10: "a pattern or streams must be there, and every field is checked",
    11: "201 for a new one, 200 for the same configuration, 409 for another",
    12: "two configurations are the same when their normalised forms are",
    13: "membership that has changed since does not change the configuration",
    14: "no answer holds a secret",
    15: "the webhook URL is validated",
    16: "all streams that match are linked at the creation",
    17: "streams that exist begin at their tail; looking at them does not keep them alive",
    18: "a stream that is found later is linked before the append by which it is found",
    19: "no append between the first look and the activation is lost",
    20: "GET shows all members",
    21: "a webhook subscription names the key that signs",
    22: "the URL of the keys is absolute",
    23: "DELETE is 204",
    24: "what is under way for a deleted subscription fails and moves no cursor",
    25: "deletion ends retries and leases",
    # Membership
    30: "streams are added at their tail; a link that is there keeps its cursor",
    31: "only the explicit link is removed; one that is not there is no error",
    32: "slashes in the path of a link may be encoded or not",
    33: "a subscription is not woken by what it writes itself",
    # Keys
    40: "the key set: media type, caching, members, no private part",
    41: "the key set has one URL",
    42: "a key keeps its id, and no two have the same",
    43: "the id is made from the key",
    44: "private keys are shown to nobody",
    45: "keys outlive a restart",
    46: "after a rotation old keys stay published until nothing that they signed is accepted",
    # Wakes, webhooks
    50: "pending and idle makes a wake, and there is one at a time",
    51: "a wake has an id of its own and a generation that grows, over restarts too",
    52: "acks are inclusive",
    53: "a webhook has six fields and is POSTed as it was signed",
    54: "creating a stream with a body counts as an append",
    55: "each attempt is signed anew over the time and the exact bytes",
    56: "2xx with done acks the snapshot of that wake, and of no other",
    57: "events after the snapshot make another wake",
    58: "a callback extends the lease, or acks and ends it",
    59: "a callback token is of one subscription and one wake",
    60: "a stale callback is fenced",
    61: "retries wait exponentially, with jitter, from 1 s to 60 s",
    62: "the schedule of retries outlives the process",
    63: "status is failed while a retry is scheduled, and active after a success",
    # Pull-wake
    70: "the server never creates a wake stream",
    71: "one message for each wake, with five fields",
    72: "a claim takes the wake in flight, or makes one",
    73: "a second claim is told the holder and the generation",
    74: "an ack without done is a heartbeat; with done it ends the wake",
    75: "a release acks nothing",
    76: "what is left is announced again",
    77: "stale acks and releases are fenced",
    78: "a wake event is as durable as any append, and repeated at most with its generation",
    # Fencing, leases, security
    80: "four checks, each of them alone: token, its generation, the body's generation and wake",
    81: "leases run from the wake, or the claim, and are extended",
    82: "the end of a lease fences its token",
    83: "what is pending after it makes another wake, with a new generation",
    84: "an ack lies between cursor and tail of a linked stream; all of a batch or nothing",
    85: "https, but for localhost in development",
    86: "no address that is not public: notations, names, rebinding, redirects, proxies",
    87: "no metadata service",
    88: "an operator may list the hosts that are allowed",
    89: "tokens come in the header alone",
    90: "tokens hold identity, generation and age",
    91: "the signature of a token is checked at every use",
    92: "a receiver verifies bytes, key, time and sender",
    93: "TLS certificates are checked",
    94: "access control holds for the control plane",
}
WINDOWS = 13
FOLDER = Path(__file__).parent


@cache
def named(kind: str) -> set[int]:
    """The numbers in the names of tests, such as 56 of ``test_r56_...`` for ``r``."""
    found = set()
    for path in FOLDER.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and (name := re.match(rf"test_{kind}(\d+)_", node.name)):
                found.add(int(name[1]))
    return found


@pytest.mark.parametrize("number", REQUIREMENTS)
def test_each_requirement_has_a_test_of_its_name(number: int) -> None:
    assert number in named("r"), REQUIREMENTS[number]


def test_no_test_names_a_requirement_that_is_not_in_the_table() -> None:
    assert named("r") <= REQUIREMENTS.keys()


@pytest.mark.parametrize("number", range(1, WINDOWS + 1))
def test_each_failure_window_has_a_story(number: int) -> None:
    assert [name for name in STORIES if name.startswith(f"w{number:02}_")]
