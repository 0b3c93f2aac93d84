"""What this process serves: the configuration and the certificate that were accepted together.

The master accepts them; a worker is forked with them. What is accepted later reaches the workers that run through the
Handover, so no process but the master ever reads the files.
"""

from __future__ import annotations

import math
import os
import pickle
import zlib
from tempfile import TemporaryFile
from typing import Any, Final, NamedTuple

from durable_streams.config import Config, ConfigLoadOptions
from durable_streams.config.tls_files import TlsPair, read_tls_files

_CHECKSUM_BYTES: Final = 4


class Served(NamedTuple):
    """A configuration that was found right, and the certificate that it names. ``revision`` counts reloads."""

    config: Config
    tls: TlsPair | None
    revision: int = 0


def load(options: ConfigLoadOptions) -> Served:
    """Read configuration and certificate; raises ConfigError when either cannot be used."""
    config = Config.load(options)
    return Served(config, read_tls_files(config))


def timeouts(config: Config) -> dict[str, Any]:
    """gunicorn's own copies of reloadable settings."""
    return {
        "keepalive": config.server.keepalive_secs,
        "graceful_timeout": math.ceil(config.server.shutdown_grace_secs),
    }


class Handover:
    """Memory that a master shares with the workers that it forks: the newest ``Served``."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self._descriptor = os.memfd_create("served")
        else:
            self._file = TemporaryFile(buffering=0)  # noqa: SIM115
            self._descriptor = self._file.fileno()

    def put(self, served: Served) -> None:
        data = pickle.dumps(served)
        content = zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "big") + data
        os.ftruncate(self._descriptor, len(content))
        os.pwrite(self._descriptor, content, 0)

    def take(self) -> Served | None:
        """None before the first ``put``, and in the middle of one: the writer signals the workers afterwards."""
        content = os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)
        data = content[_CHECKSUM_BYTES:]
        if zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "big") != content[:_CHECKSUM_BYTES] or not data:
            return None
        served: Served = pickle.loads(data)
        return served


class Serving:
    """The state of this process: what it serves, and how it would be read again."""

    def __init__(self) -> None:
        self.options: ConfigLoadOptions | None = None
        self.served: Served | None = None
        self.handover: Handover | None = None


SERVING: Final = Serving()
