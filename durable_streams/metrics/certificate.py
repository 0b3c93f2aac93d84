"""When the certificate of this process expires; told by what serves, read at the scrape."""

from __future__ import annotations


class CertificateEnd:
    """``at``: seconds since 1970; infinite where this process speaks no TLS."""

    def __init__(self) -> None:
        self.at = float("inf")


CERTIFICATE_END = CertificateEnd()
