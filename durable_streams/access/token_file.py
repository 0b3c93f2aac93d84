"""Static bearer tokens: a file that has the hash of each, what it grants and when it ends.

The command line writes the file, and a running server notices. A token is random, 256 bits long, and shown once; so
one SHA-256 is enough to keep it from everybody who reads the file.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hmac import compare_digest
from pathlib import Path
from time import time
from typing import Any, Final

from durable_streams.access.grants import Grant
from durable_streams.access.watched_file import FileDamaged, WatchedFile
from durable_streams.storage.on_disk.disk import Disk, replace_file

PREFIX: Final = "dst_"
"""So that a scanner for leaked secrets recognises one."""
TOKENS_MAX: Final = 1000
VERSION: Final = 1


class TokenFileDamaged(FileDamaged):
    """The file is not what this program writes."""


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token as the file has it. Times are seconds since 1970."""

    id: str
    name: str
    sha256: str
    scopes: list[str]
    streams: list[str]
    created_at: float
    expires_at: float | None


def new_token(
    name: str, scopes: list[str], streams: list[str], expires_at: float | None
) -> tuple[str, TokenRecord]:
    """A token for its owner, and its record for the file."""
    identifier = secrets.token_hex(6)
    token = f"{PREFIX}{identifier}_{secrets.token_urlsafe(32)}"
    return token, TokenRecord(identifier, name, _hash(token), scopes, streams, time(), expires_at)


def read_records(path: Path) -> list[TokenRecord]:
    """The tokens of a file, none where it is missing. Raises TokenFileDamaged, or OSError."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return []
    try:
        document = json.loads(text)
        if document["version"] != VERSION:
            raise TokenFileDamaged(f"{path} has version {document['version']!r}, and {VERSION} is known")
        return [_checked(entry) for entry in document["tokens"]]
    except (ValueError, TypeError, KeyError) as exc:
        raise TokenFileDamaged(f"{path} is no file of tokens: {exc!r}") from exc


@contextmanager
def changing(path: Path) -> Iterator[list[TokenRecord]]:
    """The tokens of the file, which has at the end of the block what the list has then. One process at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{path}.lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        records = read_records(path)
        yield records
        document = {"version": VERSION, "tokens": [asdict(record) for record in records]}
        disk = Disk()
        replace_file(disk, str(path), json.dumps(document, indent=1).encode())
        disk.sync_dir(str(path.parent))


class TokenFile:
    """The grants of the tokens of one file, as it is now."""

    def __init__(self, path: Path, clock: Callable[[], float] = time) -> None:
        """``clock`` gives seconds since 1970. Raises TokenFileDamaged, or OSError."""
        self._clock = clock
        self._grants = WatchedFile(path, _grants)
        self.look = self._grants.look

    def grant_of(self, token: str) -> Grant | None:
        """What ``token`` grants now: None for one that is unknown, revoked or over."""
        found = self._grants.current().get(token[len(PREFIX) :].partition("_")[0])
        if found is None or not compare_digest(_hash(token), found[0]):
            return None
        return found[1] if self._clock() < found[1].expires_at else None


def _grants(path: Path) -> dict[str, tuple[str, Grant]]:
    return {
        record.id: (record.sha256, Grant(record.name, record.scopes, record.streams, record.expires_at))
        for record in read_records(path)
    }


def _checked(entry: Any) -> TokenRecord:
    record = TokenRecord(**entry)
    texts = [record.id, record.name, record.sha256, *record.scopes, *record.streams]
    if not all(isinstance(text, str) for text in texts) or len(record.sha256) != 64:
        raise ValueError(f"token {record.id!r} has a field of another type")
    if not isinstance(record.expires_at, int | float | None):
        raise ValueError(f"token {record.id!r} ends at no time")
    return record


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
