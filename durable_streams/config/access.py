"""The settings of access control and of what operators use; docs/access.md and docs/admin.md explain them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, model_validator
from pydantic_core import PydanticCustomError

from durable_streams.config import values
from durable_streams.config.declaring import Section, setting

Directory = Annotated[Path, BeforeValidator(values.directory)]
OptionalFile = Annotated[Path | None, BeforeValidator(values.optional_file)]
KeysUrl = Annotated[str, AfterValidator(values.keys_url)]
TextList = Annotated[tuple[str, ...], BeforeValidator(values.text_list)]


class AccessSettings(Section):
    """The part of the section that every mode has."""

    mode: Literal["none", "tokens", "jwt"] = setting(
        "none",
        "Whether everybody may do everything (`none`), or each request needs a bearer token with the scope for it: "
        "one of the server's own (`tokens`), or a JSON Web Token that somebody else has signed (`jwt`).",
    )
    tokens_path: Directory = setting(
        Path("./data/tokens.json"),
        "The file of the tokens, which `durable-streams-server token` writes; relative to the working directory.",
    )
    url_keys_path: OptionalFile = setting(
        None,
        "A file with the keys of signed read URLs, one a line, the newest at the end; without it there are none.",
    )
    url_max_secs: int = setting(
        86_400,
        "The longest that a signed read URL may be valid; one that is valid for longer is refused with 401.",
        unit="seconds",
        ge=1,
        le=2_592_000,
    )
    cache_control: Literal["private", "no-store"] = setting(
        "private",
        "Whether catch-up reads of protected streams may be kept by the client's own cache, or by none.",
    )


class AuthSettings(AccessSettings):
    """Who may do what."""

    jwt_keys_path: OptionalFile = setting(
        None,
        "With `jwt`: a file with the keys that verify tokens: public keys in PEM, a JWK Set, or one shared secret.",
    )
    jwt_keys_url: KeysUrl = setting(
        "",
        "With `jwt`, instead of a file: the URL of a JWK Set, such as `https://login.example/.well-known/jwks.json`.",
    )
    jwt_keys_cache_secs: float = setting(
        300.0,
        "How old keys from the URL become before they are fetched again, in the background.",
        unit="seconds",
        ge=1,
        le=86_400,
    )
    jwt_keys_retry_secs: float = setting(
        10.0,
        "The least time between two fetches from the URL, however many tokens name unknown keys.",
        unit="seconds",
        ge=1,
        le=3600,
    )
    jwt_issuer: str = setting(
        "", "What the claim `iss` of a token has to be; with an empty text it may be anything."
    )
    jwt_audience: TextList = setting(
        (),
        "One of these has to be in the claim `aud` of a token; with an empty list a token for an audience is refused.",
    )
    jwt_leeway_secs: float = setting(
        30.0, "How far the clock of the issuer may differ.", unit="seconds", ge=0, le=300
    )
    jwt_scope_claim: str = setting(
        "scope",
        "The claim with the scopes, as a list or a text with blanks; scopes that the server does not know are ignored.",
        min_length=1,
    )
    jwt_streams_claim: str = setting(
        "streams",
        "The claim with the patterns of stream names; a token without it is for no stream. With an empty text every "
        "token is for all streams.",
    )

    @model_validator(mode="after")
    def keys_of_one_place(self) -> AuthSettings:
        if self.mode == "jwt" and (self.jwt_keys_path is None) == (not self.jwt_keys_url):
            raise PydanticCustomError(
                "one_place",
                "needs one of auth.jwt_keys_path and auth.jwt_keys_url, and not both",
                {"key": "auth.mode"},
            )
        return self

    @model_validator(mode="after")
    def urls_need_a_mode(self) -> AuthSettings:
        if self.mode == "none" and self.url_keys_path is not None:
            raise PydanticCustomError(
                "no_mode",
                "signed URLs need access control: auth.mode must be tokens or jwt",
                {"key": "auth.url_keys_path"},
            )
        return self


class AdminSettings(Section):
    """The API for operators, below `/admin`."""

    enabled: bool = setting(
        False,
        "Whether `/admin` is served: all streams in pages, close and delete, and what the server does now. It needs "
        "the scope `admin`; without access control the server has to listen on this machine alone.",
    )
    inspector: bool = setting(
        False,
        "Whether the page `/inspect` is served, on top of `/admin`: all streams and their data in a browser.",
    )

    @model_validator(mode="after")
    def inspector_has_its_api(self) -> AdminSettings:
        if self.inspector and not self.enabled:
            raise PydanticCustomError(
                "inspector_needs_admin",
                "{absent} must be true too: the inspector asks the admin API",
                {"key": "admin.inspector", "absent": "admin.enabled"},
            )
        return self
