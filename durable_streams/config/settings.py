"""Every setting, declared once: its type, default, unit, limits and one sentence.

Loading, the error lines, the effective dump, docs/settings.md and the command line read these declarations, all of
which `configuration` joins. Where values come from is decided in `loading`; this module knows no file and no
environment.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, model_validator
from pydantic_core import PydanticCustomError

from durable_streams.config import values
from durable_streams.config.declaring import Section, setting
from durable_streams.config.traffic import PublicOrigin
from durable_streams.storage.modes import MODE_NAMES

AcidBackend = Literal["file", "in-memory"]

Origins = Annotated[tuple[str, ...], BeforeValidator(values.text_list), AfterValidator(values.cors_origins)]
HeaderNames = Annotated[
    tuple[str, ...], BeforeValidator(values.text_list), AfterValidator(values.header_names)
]
BasePaths = Annotated[tuple[str, ...], BeforeValidator(values.text_list), AfterValidator(values.base_paths)]
Host = Annotated[str, AfterValidator(values.host)]
Directory = Annotated[Path, BeforeValidator(values.directory)]
OptionalFile = Annotated[Path | None, BeforeValidator(values.optional_file)]
ByteCount = Annotated[int, BeforeValidator(values.byte_count)]
Identifier = Annotated[str, AfterValidator(values.sql_identifier)]
ShardCount = Annotated[int, AfterValidator(values.power_of_two)]
FilterText = Annotated[str, AfterValidator(values.log_filter_text)]
if TYPE_CHECKING:
    StorageMode = str
else:
    StorageMode = Literal[MODE_NAMES]
ModeName = Annotated[StorageMode, BeforeValidator(values.storage_mode_name)]
AcidBackendName = Annotated[AcidBackend, BeforeValidator(values.acid_backend_name)]


class ServerSettings(PublicOrigin):
    """Where the server listens and how long it waits."""

    host: Host = setting(
        "127.0.0.1",
        "The address or host name to listen on; `0.0.0.0` is every IPv4 address, `::` every IPv6 address.",
    )
    port: int = setting(4437, "The TCP port to listen on; 0 takes any free one.", ge=0, le=65535)
    worker_class: Literal["stream", "gevent"] = setting(
        "stream",
        "The gunicorn worker: `stream` is the fast one of this package, `gevent` is gunicorn's own code with the same "
        "limits.",
    )
    worker_connections: int = setting(
        16_384,
        "The most connections that are served at once; live readers hold one each. The next one is answered with "
        "503, but for `/healthz` and `/readyz`.",
        unit="connections",
        ge=1,
        le=1_000_000,
    )
    backlog: int = setting(
        2048,
        "The most connections that wait in the kernel to be accepted.",
        unit="connections",
        ge=1,
        le=65535,
    )
    keepalive_secs: int = setting(
        15, "How long an idle connection is kept for its next request.", unit="seconds", ge=0, le=3600
    )
    long_poll_timeout_secs: float = setting(
        30.0,
        "How long a long-poll waits for data before it is answered with 204.",
        unit="seconds",
        aliases=("transport.connection.long_poll_timeout_secs",),
        gt=0,
        le=3600,
    )
    sse_reconnect_interval_secs: float = setting(
        60.0,
        "How long an SSE connection lives, roughly, before the client is made to reconnect; 0 never ends it.",
        unit="seconds",
        aliases=("transport.connection.sse_reconnect_interval_secs",),
        ge=0,
        le=86_400,
    )
    sse_heartbeat_secs: float = setting(
        15.0,
        "How long an SSE connection may be silent before a comment is sent.",
        unit="seconds",
        gt=0,
        le=3600,
    )
    body_timeout_secs: float = setting(
        30.0,
        "How long a client may be silent between two bytes of a request body before the request is answered with "
        "408. A body may take any time in all, but one that declares its length must arrive at 100 bytes a second "
        "after its first 30 seconds.",
        unit="seconds",
        gt=0,
        le=3600,
    )
    write_timeout_secs: float = setting(
        60.0,
        "How long a client may take nothing of a response before its connection is closed.",
        unit="seconds",
        gt=0,
        le=3600,
    )
    # Container runtimes kill after ten seconds unless told otherwise; the stop must be over by then.
    shutdown_grace_secs: float = setting(
        8.0,
        "How long running requests may take to end after a stop was asked for.",
        unit="seconds",
        gt=0,
        le=3600,
    )


class HttpSettings(Section):
    """How responses look."""

    cors_origins: Origins = setting(
        ("*",),
        "The web origins that may use the server, `*` for all, an empty list for none. Without `*`, a page of any "
        "other origin that writes is refused with 403.",
    )
    cors_allowed_headers: HeaderNames = setting(
        (),
        "Names of further request headers that the pages of listed origins may send; with `*` any header is allowed.",
    )
    stream_base_path: BasePaths = setting(
        ("/v1/stream",), "The URL path under which streams live; several, for the same streams under each."
    )
    cache_visibility: Literal["public", "private"] = setting(
        "public",
        "Whether shared caches may keep catch-up reads (`public`) or only the client's own (`private`).",
    )
    compression: bool = setting(True, "Whether catch-up reads are compressed for clients that accept it.")
    compress_sse: bool = setting(False, "Whether SSE is compressed too for clients that accept it.")
    request_ids: bool = setting(
        False,
        "Whether each request has an id, its `X-Request-Id` or a new one, in the log and in the answer.",
    )
    message_offsets: bool = setting(
        False,
        "Whether new streams of JSON put the offset of its append into `headers` of each State Protocol message, where "
        "a create does not say so itself (`Stream-Message-Offsets`).",
        aliases=("json.message_offsets",),
    )


class StoredLimits(Section):
    """Limits on what is stored, a part of the section of limits."""

    max_memory_bytes: ByteCount = setting(
        100 * 1024 * 1024,
        "The most that the memory modes hold, over all streams: payload, and names, types, producers and other texts "
        "at the size that they take; the next write is answered with 413.",
        unit="bytes",
        ge=1,
    )
    max_stream_bytes: ByteCount = setting(
        0, "The most payload of one stream; a write beyond it is a 413. 0 is no limit.", unit="bytes", ge=0
    )
    max_streams: int = setting(
        0,
        "The most streams, deleted ones with forks included; the next create is answered with 429. 0 is no limit. In "
        "the mode `postgres` each worker counts all streams every 10 s, and its own creates and deletes in between.",
        unit="streams",
        ge=0,
    )
    max_producers_per_stream: int = setting(
        10_000,
        "The most idempotent producers that a stream remembers; an append of another one is answered with 429. 0 is no "
        "limit.",
        unit="producers",
        ge=0,
    )
    max_forks_per_stream: int = setting(
        10_000,
        "The most forks that read one stream; another one is answered with 429. 0 is no limit.",
        unit="forks",
        ge=0,
    )
    producer_ttl_secs: int = setting(
        7 * 24 * 3600,
        "How long a stream remembers an idempotent producer after its last accepted append;"
        " one that comes back later has to start at sequence 0. 0 is for ever.",
        unit="seconds",
        ge=0,
    )


class LimitSettings(StoredLimits):
    """Limits on requests and on what is stored."""

    max_request_body_bytes: ByteCount = setting(
        10 * 1024 * 1024, "The longest request body; a longer one is answered with 413.", unit="bytes", ge=1
    )
    max_messages_per_request: int = setting(
        100_000,
        "The most JSON messages in one request, which is answered with 413 if it has more; 0 is no limit.",
        unit="messages",
        ge=0,
    )
    max_inflight_body_bytes: ByteCount = setting(
        256 * 1024 * 1024,
        "The most bytes of request bodies that are received or written at once; the next one is answered with 503 and "
        "Retry-After. 0 is no limit.",
        unit="bytes",
        ge=0,
    )
    max_head_bytes: ByteCount = setting(
        64 * 1024,
        "The longest request head, without its request line; a longer one is answered with 431. A request line of more "
        "than 16 KiB is answered with 414.",
        unit="bytes",
        ge=1024,
    )
    max_read_bytes: ByteCount = setting(
        0,
        "The longest page of a catch-up read; 0 is one answer with all that there is, sent piece by piece.",
        unit="bytes",
        ge=0,
    )
    max_compressions: int = setting(
        2,
        "The most pages, or pieces of longer ones, that are compressed at once, and the most request bodies that are "
        "decompressed at once; others wait for their turn.",
        unit="threads",
        ge=1,
        le=10,
    )
    max_compressed_cache_bytes: ByteCount = setting(
        16 * 1024 * 1024,
        "Compressed pages that are kept for the next who ask for them; one may take an eighth. 0 keeps none.",
        unit="bytes",
        ge=0,
    )
    max_stream_name_bytes: ByteCount = setting(
        1024, "The longest stream name, percent-decoded; a longer one is a 400.", unit="bytes", ge=1
    )
    max_stream_name_segments: int = setting(
        32, "The most path segments of a stream name; more are a 400.", unit="segments", ge=1
    )
    max_connections_per_client: int = setting(
        0,
        "The most connections of one client address (IPv6: of one /64); 0 is no limit. The next one is answered "
        "with 503, and only probes are served on it. Behind a proxy all clients have its address.",
        unit="connections",
        ge=0,
    )
    max_pending_writes: int = setting(
        4096,
        "The most writes that wait for storage at once; the next is answered with 503 and Retry-After.",
        unit="writes",
        aliases=("limits.max_storage_jobs",),
        ge=1,
    )


class StorageSettings(Section):
    """Where streams are kept and what survives."""

    mode: ModeName = setting("memory", "How streams are kept; each mode has its own guarantee.")
    data_dir: Directory = setting(
        Path("./data/streams"), "The directory of the file and acid modes, relative to the working directory."
    )
    min_free_bytes: ByteCount = setting(
        16 * 1024 * 1024,
        "What stays free on the disk of `data_dir`: with less, writes are answered 507, but for deletes and closes.",
        unit="bytes",
        ge=0,
    )
    acid_shard_count: ShardCount = setting(
        1,
        "Into how many databases acid mode divides streams, a power of two; fixed once data exists.",
        unit="shards",
        ge=1,
        le=256,
    )
    acid_backend: AcidBackendName = setting("file", "Whether acid mode writes to disk or works in memory.")


class PostgresSettings(Section):
    """The database of the mode `postgres`."""

    dsn: str = setting(
        "",
        "The address, as `postgresql://user:password@host/database` or `host=... dbname=...`; DATABASE_URL is taken"
        " when it is empty.",
        secret=True,
    )
    listen_dsn: str = setting(
        "",
        "Another address for the session that listens, past a pooler such as PgBouncer; empty for the same one.",
        secret=True,
    )
    db_schema: Identifier = setting(
        "durable_streams", "The schema that holds the tables.", aliases=("postgres.schema",)
    )
    pool_size: int = setting(
        6,
        "The most sessions of one worker; half of them may commit at once. One more listens.",
        unit="sessions",
        ge=2,
        le=100,
    )
    statement_timeout_secs: float = setting(
        10.0,
        "The longest that one statement may take; then the request is answered with 503.",
        unit="seconds",
        gt=0,
        le=600,
    )
    synchronous_commit: Literal["on", "remote_write", "remote_apply", "local", "off"] = setting(
        "on",
        "What a commit waits for; `remote_apply` where replicas serve reads, `off` may lose answered requests.",
    )
    max_cache_bytes: ByteCount = setting(
        64 * 1024 * 1024, "Payload that one worker keeps to read it again; 0 keeps none.", unit="bytes", ge=0
    )


class TlsSettings(Section):
    """The certificate; with it the server speaks https only. Whether there is one is decided at the start."""

    cert_path: OptionalFile = setting(
        None,
        "The PEM file with the certificate and its chain; needs `key_path`.",
        aliases=("transport.tls.cert_path",),
    )
    key_path: OptionalFile = setting(
        None,
        "The PEM file with the private key, not encrypted; needs `cert_path`.",
        aliases=("transport.tls.key_path",),
    )
    client_ca_path: OptionalFile = setting(
        None, "A PEM file with authorities: each client then needs a certificate of one of them."
    )
    min_version: Literal["1.2", "1.3"] = setting("1.2", "The oldest version of TLS that is spoken.")

    @model_validator(mode="after")
    def both_or_neither(self) -> TlsSettings:
        if (self.cert_path is None) != (self.key_path is None):
            missing, present = ("key_path", "cert_path") if self.cert_path else ("cert_path", "key_path")
            raise PydanticCustomError(
                "both_or_neither",
                "{absent} must be set too: a certificate and its key come together",
                {"key": f"tls.{present}", "absent": f"tls.{missing}"},
            )
        if self.client_ca_path is not None and self.cert_path is None:
            known = {"key": "tls.client_ca_path", "absent": "tls.cert_path"}
            raise PydanticCustomError("no_tls", "{absent} must be set too", known)
        return self

    @property
    def enabled(self) -> bool:
        return self.cert_path is not None


class MetricsSettings(Section):
    """Numbers for Prometheus, at `/metrics`."""

    enabled: bool = setting(
        False,
        "Whether the server counts what it does and answers `GET /metrics`. Anyone who may ask sees how busy it is.",
    )


class OtelSettings(Section):
    """Traces, and with `metrics.enabled` metrics too, for OpenTelemetry; the variables `OTEL_*` say where to."""

    enabled: bool = setting(False, "Whether each request has a span, which is sent by OTLP over HTTP.")


class LogSettings(Section):
    """What is logged and in which form."""

    rust_log: FilterText = setting(
        "info",
        "Which levels are logged for which targets, as `warn,durable_streams=debug`; RUST_LOG overrides it.",
        aliases=("observability.rust_log",),
    )
    format: Literal["text", "json"] = setting(
        "text", "Log lines for people (`text`) or for machines (`json`)."
    )
