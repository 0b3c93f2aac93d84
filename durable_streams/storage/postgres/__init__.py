"""The ``postgres`` mode: streams in PostgreSQL, so that every worker on every machine can take any request."""

from durable_streams.storage.postgres.options import PostgresOptions
from durable_streams.storage.postgres.storage import PostgresStorage

__all__ = ["PostgresOptions", "PostgresStorage"]
