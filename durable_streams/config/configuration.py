"""The whole configuration: all sections together, and every declared setting by its dotted key."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from pydantic import PrivateAttr, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from durable_streams.config.access import AdminSettings, AuthSettings
from durable_streams.config.declaring import Section
from durable_streams.config.settings import (
    HttpSettings,
    LimitSettings,
    LogSettings,
    MetricsSettings,
    OtelSettings,
    PostgresSettings,
    ServerSettings,
    StorageSettings,
    TlsSettings,
)
from durable_streams.config.subscriptions import SubscriptionSettings
from durable_streams.config.traffic import (
    DefaultSettings,
    ProxySettings,
    QuotaSettings,
    RateSettings,
    check_stored_quotas,
)
from durable_streams.storage.modes import mode_of

if TYPE_CHECKING:
    from durable_streams.config.loading import ConfigLoadOptions

BUILT_IN_DEFAULT: Final = "built-in default"


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """One declared setting as loading, documents and dumps see it. `key` is dotted: `server.port`."""

    key: str
    field: FieldInfo
    sentence: str
    unit: str
    aliases: tuple[str, ...]
    secret: bool

    @property
    def env_name(self) -> str:
        return env_name(self.key)

    @property
    def default(self) -> Any:
        return self.field.get_default(call_default_factory=True, validated_data={})


@dataclasses.dataclass(slots=True)
class ReadFrom:
    """Where a configuration came from: the origin of each value by its key, and the files."""

    sources: dict[str, str] = dataclasses.field(default_factory=dict)
    files: tuple[str, ...] = ()
    ignored_files: tuple[str, ...] = ()


class StoreSections(Section):
    """The sections of the server and its streams."""

    server: ServerSettings = ServerSettings()
    http: HttpSettings = HttpSettings()
    limits: LimitSettings = LimitSettings()
    storage: StorageSettings = StorageSettings()
    postgres: PostgresSettings = PostgresSettings()
    subscriptions: SubscriptionSettings = SubscriptionSettings()
    tls: TlsSettings = TlsSettings()


class Config(StoreSections):
    """The whole configuration, frozen. `Config()` is the built-in defaults; `Config.load()` reads files and
    environment.
    """

    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    otel: OtelSettings = OtelSettings()
    auth: AuthSettings = AuthSettings()
    admin: AdminSettings = AdminSettings()
    defaults: DefaultSettings = DefaultSettings()
    rates: RateSettings = RateSettings()
    quotas: QuotaSettings = QuotaSettings()
    proxy: ProxySettings = ProxySettings()

    @model_validator(mode="after")
    def place_of_the_mode(self) -> Config:
        place = mode_of(self.storage).place
        if not self.value_of(place):
            raise PydanticCustomError(
                "no_place",
                "{absent} must be set too ({variable}, or DATABASE_URL): it says where the streams are",
                {"key": "storage.mode", "absent": place, "variable": env_name(place)},
            )
        return self

    @model_validator(mode="after")
    def quotas_that_are_counted(self) -> Config:
        mode = mode_of(self.storage)
        check_stored_quotas(self.quotas, mode.shared, mode.name)
        return self

    _read_from: ReadFrom = PrivateAttr(default_factory=ReadFrom)

    @classmethod
    def load(cls, options: ConfigLoadOptions | None = None) -> Config:
        """Read the layers that `options` name. Raises ConfigError, one line, for anything wrong in any of
        them.
        """
        from durable_streams.config.loading import ConfigLoadOptions, load_config

        return load_config(options or ConfigLoadOptions())

    def source_of(self, key: str) -> str:
        """Where the value of a dotted key came from, for people. Raises KeyError for an unknown key."""
        return self._read_from.sources.get(SETTINGS[key].key, BUILT_IN_DEFAULT)

    @property
    def files(self) -> tuple[str, ...]:
        """The files that set something, each over the ones before it."""
        return self._read_from.files

    @property
    def ignored_files(self) -> tuple[str, ...]:
        """The files in `config/` that belong to another program."""
        return self._read_from.ignored_files

    def value_of(self, key: str) -> Any:
        """The value of a dotted key. Raises KeyError for an unknown key."""
        section, name = SETTINGS[key].key.split(".")
        return getattr(getattr(self, section), name)


def env_name(key: str) -> str:
    """The environment variable of a dotted key, by rule: `server.port` -> `DS_SERVER__PORT`."""
    return "DS_" + key.upper().replace(".", "__")


def section_models() -> Iterator[tuple[str, type[Section]]]:
    """Every section's name and model, in the order of the documents."""
    for name, field in Config.model_fields.items():
        assert isinstance(field.annotation, type)
        yield name, field.annotation


def _declared() -> Iterator[Setting]:
    for section, model in section_models():
        for name, field in model.model_fields.items():
            extra: Any = field.json_schema_extra
            yield Setting(
                key=f"{section}.{name}",
                field=field,
                sentence=field.description or "",
                unit=extra["unit"],
                aliases=tuple(extra["aliases"]),
                secret=extra["secret"],
            )


SETTINGS: Final[dict[str, Setting]] = {declared.key: declared for declared in _declared()}
