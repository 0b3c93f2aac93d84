"""Certificates and keys that are of no use are found before the server listens, and named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from durable_streams.config import Config, ConfigError, TlsSettings
from durable_streams.config.tls_files import read_tls_files
from tests.servers import TlsFiles


def failure(cert_path: Path, key_path: Path) -> ConfigError:
    config = Config(tls=TlsSettings(cert_path=cert_path, key_path=key_path))
    with pytest.raises(ConfigError) as caught:
        read_tls_files(config)
    return caught.value


def test_no_certificate_is_no_mistake() -> None:
    read_tls_files(Config())


def test_a_certificate_and_its_key_pass(tls_files: TlsFiles) -> None:
    read_tls_files(Config(tls=TlsSettings(cert_path=tls_files.certificate, key_path=tls_files.key)))


def test_a_missing_certificate_is_named(tls_files: TlsFiles, tmp_path: Path) -> None:
    error = failure(tmp_path / "no.pem", tls_files.key)
    assert (error.phase, error.key) == ("check_tls_files", "tls.cert_path")
    assert f"'{tmp_path / 'no.pem'}': TLS file not found" in str(error)


def test_a_missing_key_is_named(tls_files: TlsFiles, tmp_path: Path) -> None:
    error = failure(tls_files.certificate, tmp_path / "no.pem")
    assert (error.phase, error.key) == ("check_tls_files", "tls.key_path")


def test_a_directory_is_no_certificate(tls_files: TlsFiles, tmp_path: Path) -> None:
    assert failure(tmp_path, tls_files.key).reason == "TLS path is not a regular file"


def test_a_file_that_may_not_be_read_is_named(
    tls_files: TlsFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key.pem"
    shutil.copy(tls_files.key, key)
    opened = Path.open

    # File permissions do not hold for root, as whom tests in containers run.
    def refuse_key(path: Path, mode: str) -> object:
        if path == key:
            raise PermissionError(13, "Permission denied")
        return opened(path, mode)

    monkeypatch.setattr(Path, "open", refuse_key)
    error = failure(tls_files.certificate, key)
    assert (error.phase, error.key) == ("check_tls_files", "tls.key_path")
    assert error.reason == "TLS file is not readable: Permission denied"


def test_a_key_of_another_certificate_is_refused(tls_files: TlsFiles, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(other)
    error = failure(tls_files.certificate, other)
    assert (error.phase, error.key) == ("build_tls_context", "tls.key_path")
    assert "does not belong to the certificate" in error.reason


def test_a_certificate_that_is_none_is_told_from_a_key_that_is_none(
    tls_files: TlsFiles, tmp_path: Path
) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense\n")
    assert failure(nonsense, tls_files.key).key == "tls.cert_path"
    assert failure(tls_files.certificate, nonsense).key == "tls.key_path"


def test_an_encrypted_key_is_refused_instead_of_asking_for_its_password(
    tls_files: TlsFiles, tmp_path: Path
) -> None:
    key = serialization.load_pem_private_key(tls_files.key.read_bytes(), password=None)
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    error = failure(tls_files.certificate, encrypted)
    assert error.key == "tls.key_path"
    assert "the key is encrypted" in error.reason


def test_a_file_of_client_authorities_without_one_is_named(tls_files: TlsFiles, tmp_path: Path) -> None:
    given = {"cert_path": tls_files.certificate, "key_path": tls_files.key}
    for name, text in (("empty.pem", ""), ("key.pem", tls_files.key.read_text()), ("latin.pem", "\xe4")):
        path = tmp_path / name
        path.write_text(text, encoding="latin-1")
        with pytest.raises(ConfigError) as caught:
            read_tls_files(Config(tls=TlsSettings(**given, client_ca_path=path)))
        assert caught.value.key == "tls.client_ca_path"
    pair = read_tls_files(Config(tls=TlsSettings(**given, client_ca_path=tls_files.authority)))
    assert pair is not None
    assert pair.client_authorities == tls_files.authority.read_text()
