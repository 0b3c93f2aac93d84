"""How the database is reached: the table ``[postgres]`` of the configuration, as the storage wants it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PostgresOptions:
    """Times in seconds, sizes in bytes; see docs/settings.md."""

    dsn: str
    listen_dsn: str = ""
    """For the session that listens, where ``dsn`` leads to a pooler that cannot; empty for the same one."""
    schema: str = "durable_streams"
    pool_size: int = 6
    statement_timeout_s: float = 10.0
    synchronous_commit: str = "on"
    cache_bytes: int = 64 << 20

    @property
    def session_settings(self) -> list[tuple[str, str]]:
        return [
            ("search_path", self.schema),
            ("statement_timeout", str(round(self.statement_timeout_s * 1000))),
            ("synchronous_commit", self.synchronous_commit),
            ("application_name", "durable-streams-server"),
            ("client_encoding", "UTF8"),
        ]
