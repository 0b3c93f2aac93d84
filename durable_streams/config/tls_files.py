"""The certificate and key files, looked at before anything listens: readable, and a pair.

Kept from loading, so that printing a configuration works on a machine that has no certificate.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from durable_streams.config.configuration import Config
from durable_streams.config.errors import BUILD_TLS_CONTEXT, CHECK_TLS_FILES, ConfigError


def check_tls_files(config: Config) -> None:
    """Raises ConfigError, naming the file, when https is asked for and the certificate or key is of no
    use.
    """
    cert_path, key_path = config.tls.cert_path, config.tls.key_path
    if cert_path is None or key_path is None:
        return
    _check_readable(config, "tls.cert_path", cert_path)
    _check_readable(config, "tls.key_path", key_path)
    _check_pair(config, cert_path, key_path)


def _check_readable(config: Config, key: str, path: Path) -> None:
    if not path.exists():
        raise _file_error(config, key, path, "TLS file not found")
    if not path.is_file():
        raise _file_error(config, key, path, "TLS path is not a regular file")
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as exc:
        raise _file_error(config, key, path, f"TLS file is not readable: {exc.strerror}") from exc


def _check_pair(config: Config, cert_path: Path, key_path: Path) -> None:
    """OpenSSL alone knows what it will accept, so it is asked to load the pair the way the server will."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without a password function OpenSSL would ask for one on the terminal and the start would hang.
        context.load_cert_chain(cert_path, key_path, password=_refuse_password)
    except _EncryptedKeyError as exc:
        raise _pair_error(
            config, "tls.key_path", key_path, "the key is encrypted; store it without a password"
        ) from exc
    except ssl.SSLError as exc:
        if exc.reason == "KEY_VALUES_MISMATCH":
            reason = f"the key does not belong to the certificate {cert_path}"
            raise _pair_error(config, "tls.key_path", key_path, reason) from exc
        raise _unusable_pem(config, cert_path, key_path) from exc
    except OSError as exc:
        raise _pair_error(config, "tls.cert_path", cert_path, f"cannot be loaded: {exc.strerror}") from exc


class _EncryptedKeyError(Exception):
    pass


def _refuse_password() -> str:
    raise _EncryptedKeyError


def _unusable_pem(config: Config, cert_path: Path, key_path: Path) -> ConfigError:
    """OpenSSL says "PEM lib" for either file; the certificate alone tells which of the two it means."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=cert_path)
    except ssl.SSLError:
        return _pair_error(config, "tls.cert_path", cert_path, "holds no certificate in PEM form")
    return _pair_error(config, "tls.key_path", key_path, "holds no usable private key in PEM form")


def _file_error(config: Config, key: str, path: Path, reason: str) -> ConfigError:
    return ConfigError(
        reason, phase=CHECK_TLS_FILES, key=key, value=f"'{path}'", origin=config.source_of(key)
    )


def _pair_error(config: Config, key: str, path: Path, reason: str) -> ConfigError:
    return ConfigError(
        reason, phase=BUILD_TLS_CONTEXT, key=key, value=f"'{path}'", origin=config.source_of(key)
    )
