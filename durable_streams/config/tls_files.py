"""The certificate and key files: read once, checked before anything listens, and kept.

Separate from loading, so that printing a configuration works on a machine that has no certificate. A process that
starts later gets the bytes that were checked, not what the files hold by then.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import NamedTuple

from durable_streams.config.configuration import Config
from durable_streams.config.errors import BUILD_TLS_CONTEXT, CHECK_TLS_FILES, ConfigError


class TlsPair(NamedTuple):
    """A certificate with its chain and its private key, in PEM form; OpenSSL has accepted the two.

    ``client_authorities``: in PEM form, those whose certificates clients need; None: they need none.
    """

    certificate: bytes
    key: bytes
    client_authorities: str | None = None

    @contextmanager
    def as_files(self) -> Iterator[tuple[str, str]]:
        """Paths of both while the block lasts, since OpenSSL reads files only. Nobody else can open them."""
        with ExitStack() as files:
            certificate, key = (files.enter_context(_as_file(pem)) for pem in self[:2])
            yield certificate, key


def read_tls_files(config: Config) -> TlsPair | None:
    """The pair that ``tls`` names, None without https.

    Raises ConfigError, naming the file, when the certificate or key cannot be used.
    """
    cert_path, key_path = config.tls.cert_path, config.tls.key_path
    if cert_path is None or key_path is None:
        return None
    pair = TlsPair(
        _read(config, "tls.cert_path", cert_path),
        _read(config, "tls.key_path", key_path),
        _read_authorities(config),
    )
    with pair.as_files() as (certificate, key):
        _check_pair(config, certificate, key)
    return pair


def _read_authorities(config: Config) -> str | None:
    path = config.tls.client_ca_path
    if path is None:
        return None
    try:
        text = _read(config, "tls.client_ca_path", path).decode("ascii")
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as exc:
        raise _pair_error(config, "tls.client_ca_path", "holds no certificate in PEM form") from exc
    return text


def _read(config: Config, key: str, path: Path) -> bytes:
    if not path.exists():
        raise _file_error(config, key, path, "TLS file not found")
    if not path.is_file():
        raise _file_error(config, key, path, "TLS path is not a regular file")
    try:
        return path.read_bytes()
    except OSError as exc:
        raise _file_error(config, key, path, f"TLS file is not readable: {exc.strerror}") from exc


@contextmanager
def _as_file(pem: bytes) -> Iterator[str]:
    if hasattr(os, "memfd_create"):
        # In memory, so that a key that was deleted or a read-only disk does not matter.
        with open(os.memfd_create("tls"), "w+b", buffering=0) as file:
            file.write(pem)
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with NamedTemporaryFile(buffering=0) as file:
            file.write(pem)
            yield file.name


def _check_pair(config: Config, certificate: str, key: str) -> None:
    """OpenSSL alone knows what it will accept, so it is asked to load the pair the way the server will."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without a password function OpenSSL would ask for one on the terminal and the start would hang.
        context.load_cert_chain(certificate, key, password=_refuse_password)
    except _EncryptedKeyError as exc:
        reason = "the key is encrypted; store it without a password"
        raise _pair_error(config, "tls.key_path", reason) from exc
    except ssl.SSLError as exc:
        if exc.reason == "KEY_VALUES_MISMATCH":
            reason = f"the key does not belong to the certificate {config.tls.cert_path}"
            raise _pair_error(config, "tls.key_path", reason) from exc
        raise _unusable_pem(config, certificate) from exc


class _EncryptedKeyError(Exception):
    pass


def _refuse_password() -> str:
    raise _EncryptedKeyError


def _unusable_pem(config: Config, certificate: str) -> ConfigError:
    """OpenSSL says "PEM lib" for either file; the certificate alone tells which of the two it means."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=certificate)
    except ssl.SSLError:
        return _pair_error(config, "tls.cert_path", "holds no certificate in PEM form")
    return _pair_error(config, "tls.key_path", "holds no usable private key in PEM form")


def _file_error(config: Config, key: str, path: Path, reason: str) -> ConfigError:
    return ConfigError(
        reason, phase=CHECK_TLS_FILES, key=key, value=f"'{path}'", origin=config.source_of(key)
    )


def _pair_error(config: Config, key: str, reason: str) -> ConfigError:
    return ConfigError(
        reason,
        phase=BUILD_TLS_CONTEXT,
        key=key,
        value=f"'{config.value_of(key)}'",
        origin=config.source_of(key),
    )
