"""The storage modes, in one table: what each promises, how it is built, and what it offers beside the port.

The application, the command line, the start checks, the line of listening, the configuration and the documents read
this table; nothing else lists modes. A storage is imported when it is built, because some are heavy or optional.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from durable_streams.extras import require_extra
from durable_streams.storage.abilities import Maintained
from durable_streams.storage.contract import Storage
from durable_streams.storage.on_disk.room import RoomLimits


class StorageOptions(Protocol):
    """What a storage is built from: the table ``[storage]`` of the configuration."""

    @property
    def mode(self) -> str: ...
    @property
    def data_dir(self) -> Path: ...
    @property
    def min_free_bytes(self) -> int: ...
    @property
    def acid_shard_count(self) -> int: ...
    @property
    def acid_backend(self) -> str: ...


class PostgresSettings(Protocol):
    """The table ``[postgres]`` of the configuration; ``PostgresOptions`` says what each is."""

    @property
    def dsn(self) -> str: ...
    @property
    def listen_dsn(self) -> str: ...
    @property
    def db_schema(self) -> str: ...
    @property
    def pool_size(self) -> int: ...
    @property
    def statement_timeout_secs(self) -> float: ...
    @property
    def synchronous_commit(self) -> str: ...
    @property
    def max_cache_bytes(self) -> int: ...


class Settings(Protocol):
    """The part of the configuration that storages are built from."""

    @property
    def storage(self) -> StorageOptions: ...
    @property
    def postgres(self) -> PostgresSettings: ...


@dataclass(frozen=True, slots=True)
class Mode:
    """One row of the table; ``name`` is the value of ``storage.mode``, with that of ``acid_backend`` for a variant."""

    name: str
    guarantee: str
    """What an answered request survives, in a few words for people."""
    make: Callable[[Settings], Storage]
    maintenance: Callable[[], Maintained] | None = None
    """None: the mode keeps nothing on this machine that an operator could look after."""
    shared: bool = False
    """Several processes may open the storage, which then fulfils ``abilities.Shared``."""
    mark: str = ""
    """The file that makes a directory a data directory of this mode, relative to it."""
    fixed: Callable[[Path], Mapping[str, Any]] = lambda data_dir: {}
    """The settings of ``[storage]`` that a data directory was made with; raises a DirectoryError."""
    place: str = "storage.data_dir"
    """The setting that says where the streams are, for errors at opening."""
    extra: str = ""
    """The optional part of the package that has to be installed."""

    @property
    def is_durable(self) -> bool:
        """Whether streams outlive the process."""
        return self.shared or bool(self.mark)

    def check_installed(self) -> None:
        """Raise MissingExtra unless the packages that the mode needs are installed."""
        if self.extra:
            require_extra(self.extra, f"storage.mode = {self.name}")

    def build(self, settings: Settings) -> Storage:
        """The storage, not opened yet; raises MissingExtra."""
        self.check_installed()
        return self.make(settings)


def _memory(settings: Settings) -> Storage:
    from durable_streams.storage.memory import InMemoryStorage

    return InMemoryStorage()


def _file_fast(settings: Settings) -> Storage:
    return _files(settings, durable=False)


def _file_durable(settings: Settings) -> Storage:
    return _files(settings, durable=True)


def _files(settings: Settings, durable: bool) -> Storage:
    from durable_streams.storage.files import FileStorage

    chosen = settings.storage
    return FileStorage(Path(chosen.data_dir), durable, room=RoomLimits(chosen.min_free_bytes))


def _file_maintenance() -> Maintained:
    from durable_streams.storage.files.maintenance import FileMaintenance

    return FileMaintenance()


def _acid(settings: Settings) -> Storage:
    from durable_streams.storage.zodb import AcidStorage

    chosen = settings.storage
    room = RoomLimits(chosen.min_free_bytes)
    return AcidStorage(Path(chosen.data_dir), chosen.acid_shard_count, room=room)


def _acid_fixed(data_dir: Path) -> Mapping[str, Any]:
    from durable_streams.storage.zodb.opening import read_layout

    layout = read_layout(data_dir)
    return {"acid_shard_count": layout.shard_count} if layout else {}


def _acid_in_memory(settings: Settings) -> Storage:
    from durable_streams.storage.zodb import AcidStorage

    return AcidStorage(None, settings.storage.acid_shard_count, "in-memory")


def _acid_maintenance() -> Maintained:
    from durable_streams.storage.zodb.maintenance import AcidMaintenance

    return AcidMaintenance()


def _postgres(settings: Settings) -> Storage:
    from durable_streams.storage.postgres import PostgresOptions, PostgresStorage

    chosen = settings.postgres
    return PostgresStorage(
        PostgresOptions(
            dsn=chosen.dsn,
            listen_dsn=chosen.listen_dsn,
            schema=chosen.db_schema,
            pool_size=chosen.pool_size,
            statement_timeout_s=chosen.statement_timeout_secs,
            synchronous_commit=chosen.synchronous_commit,
            cache_bytes=chosen.max_cache_bytes,
        )
    )


_TABLE: Final = (
    Mode("memory", "nothing survives a restart", _memory),
    Mode(
        "file-fast",
        "survives a crash of the process; a power cut may take the last moments",
        _file_fast,
        maintenance=_file_maintenance,
        mark="layout",
    ),
    Mode(
        "file-durable",
        "an answered request is on disk",
        _file_durable,
        maintenance=_file_maintenance,
        mark="layout",
    ),
    Mode(
        "acid",
        "every change is one transaction, on disk before it is answered",
        _acid,
        maintenance=_acid_maintenance,
        mark="acid/layout.json",
        fixed=_acid_fixed,
        extra="acid",
    ),
    Mode(
        "acid in-memory",
        "transactions without a disk; nothing survives a restart",
        _acid_in_memory,
        extra="acid",
    ),
    Mode(
        "postgres",
        "an answered request is committed by PostgreSQL",
        _postgres,
        shared=True,
        place="postgres.dsn",
        extra="postgres",
    ),
)
MODES: Final[Mapping[str, Mode]] = {mode.name: mode for mode in _TABLE}
MODE_NAMES: Final = tuple(name for name in MODES if " " not in name)
"""The values of ``storage.mode``."""
MODE_ALIASES: Final = {"file": "file-durable"}
"""Other servers' names. Later Rust versions merged their two file modes into one with the stronger promise."""


def mode_of(options: StorageOptions) -> Mode:
    """The row that the configuration selects."""
    return MODES.get(f"{options.mode} {options.acid_backend}") or MODES[options.mode]


def mode_of_directory(directory: Path, options: StorageOptions) -> Mode:
    """The mode that has made ``directory``; the configured one where it may have, or where nothing tells."""
    configured, marked = mode_of(options), modes_marked(directory)
    return configured if not marked or configured.name in marked else MODES[marked[-1]]


def modes_marked(data_dir: Path) -> list[str]:
    """The modes that have made ``data_dir`` one of their data directories."""
    return [mode.name for mode in _TABLE if mode.mark and (data_dir / mode.mark).exists()]
