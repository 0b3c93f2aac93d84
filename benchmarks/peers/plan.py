"""What is measured on which server: the rows of the table, in groups that share one start of the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.peers.live import fan_out, idle, long_poll
from benchmarks.peers.loads import BYTES, JSON, MIB, SMALL, Load, catch_up, gets, heads, json_batch, posts
from benchmarks.peers.servers import Kind
from benchmarks.peers.sizes import appends, tail_reads

SLOW_SYNC_US = 2000
HUNDRED_MB = 100 * MIB
SIZES = {"1 KB": 1000, "1 MB": 1000_000, "1 GB": 1000_000_000}

POST_1 = "POST 100 B, 1 connection"
POST_32 = "POST 100 B, 32 connections"
POST_256 = "POST 100 B, 256 connections"
GET_32 = "GET 100 B, 32 connections"
GET_256 = "GET 100 B, 256 connections"
POST_32_SLOW = "POST 100 B, 32 connections, sync + 2 ms"
SSE_SATURATED = "SSE 1000 readers, saturated"
SSE_STEADY = "SSE 5000 readers, 2 appends/s"
CATCH_UP_BYTES = "catch-up 100 MB, bytes"
IDLE_SSE = "idle SSE connection"
START_MANY = "start with 100k streams"


@dataclass(frozen=True)
class Group:
    """Rows that are measured one after the other on one start of a server."""

    name: str
    rows: Mapping[str, Load]
    slow_sync_us: int = 0
    repeats: int = 1


MAIN: Mapping[str, Load] = {
    POST_32: posts(32, 1),
    POST_256: posts(256, 1),
    GET_32: gets(32),
    GET_256: gets(256),
    SSE_SATURATED: fan_out(1000, 0, 2),
}
MORE: Mapping[str, Load] = {
    POST_1: posts(1, 1),
    f"{POST_1}, 256 streams": posts(1, 256),
    f"{POST_32}, 256 streams": posts(32, 256),
    f"{POST_256}, 256 streams": posts(256, 256),
    "GET 100 B, 1 connection": gets(1),
    "HEAD, 32 connections": heads(32),
    "POST 100 JSON messages, 32 connections": posts(32, 1, json_batch(100), JSON),
    "POST 1 MB, 4 connections": posts(4, 1, b"x" * MIB, BYTES),
    CATCH_UP_BYTES: catch_up(HUNDRED_MB, BYTES),
    "catch-up 100 MB, JSON": catch_up(HUNDRED_MB, JSON),
    "long-poll round trip": long_poll,
}
# How a wake reaches its readers is the same in every storage mode.
FAN_OUT: Mapping[str, Load] = {
    "SSE 100 readers, saturated": fan_out(100, 0, 2),
    "SSE 5000 readers, saturated": fan_out(5000, 0, 3),
    "SSE 100 readers, 2 appends/s": fan_out(100, 2, 5),
    "SSE 1000 readers, 2 appends/s": fan_out(1000, 2, 5),
    SSE_STEADY: fan_out(5000, 2, 5),
}
SLOW: Mapping[str, Load] = {
    f"{POST_1}, sync + 2 ms": posts(1, 1),
    POST_32_SLOW: posts(32, 1),
    f"{POST_256}, 256 streams, sync + 2 ms": posts(256, 256),
}


def append_at(size: str) -> str:
    return f"append to a stream of {size}"


SIZED: Mapping[str, Load] = {
    f"read the tail of a stream of {name}": tail_reads(size) for name, size in SIZES.items()
} | {append_at(name): appends(size) for name, size in SIZES.items()}

QUICK_GROUP = Group(
    "quick",
    {POST_32: posts(32, 1, SMALL), GET_32: gets(32), SSE_SATURATED: fan_out(1000, 0, 2)},
)


def groups(kind: Kind, rows: str, first_round: bool, large: bool) -> list[Group]:
    """What is measured on a server in one round. What takes long and varies little is done in the first one.

    `rows`: "quick", "goals" (those that the goals ask for) or "all".
    """
    if rows == "quick":
        return [QUICK_GROUP]
    if kind.main_rows_only:
        return [Group("main", MAIN)]
    if rows == "goals":
        live = {} if kind.keeps else {SSE_STEADY: FAN_OUT[SSE_STEADY], CATCH_UP_BYTES: MORE[CATCH_UP_BYTES]}
        found = [Group("main", {**MAIN, **live})]
    else:
        found = [Group("main", {**MAIN, **MORE, **({} if kind.keeps else FAN_OUT)})]
    if kind.durable:
        found.append(
            Group("slow", {POST_32_SLOW: SLOW[POST_32_SLOW]} if rows == "goals" else SLOW, SLOW_SYNC_US)
        )
    if first_round:
        found.append(Group("idle", {IDLE_SSE: idle(2000)}))
        if large:
            found.append(Group("large", SIZED, repeats=2))
    return found
