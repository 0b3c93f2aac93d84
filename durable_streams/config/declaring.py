"""How a setting is declared: one line with its default, its unit, its limits and one sentence for people."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


def setting(
    default: Any,
    sentence: str,
    *,
    unit: str = "",
    aliases: tuple[str, ...] = (),
    secret: bool = False,
    **limits: Any,
) -> Any:
    """One declaration. `unit` is for people, `aliases` are further dotted names, `limits` go to the
    validator.
    """
    extra: Any = {"unit": unit, "aliases": list(aliases), "secret": secret}
    return Field(default, description=sentence, json_schema_extra=extra, **limits)


class Section(BaseModel):
    """One TOML table: frozen and strict about types; undeclared keys are refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)
