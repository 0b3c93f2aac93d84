"""The end of the certificate that is served: warned of in the log for 14 days before, and told to the metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import time
from typing import Final

import gevent
from cryptography.x509 import load_pem_x509_certificate

from durable_streams.metrics.certificate import CERTIFICATE_END
from durable_streams.serving.served import SERVING

DAY_S: Final = 86_400
WARNED_S: Final = 14 * DAY_S
LOOK_INTERVAL_S: Final = DAY_S

log = logging.getLogger("durable_streams.serving")


def watch() -> None:
    """Look now and once a day from a greenlet, where there is a certificate."""
    if SERVING.served is not None and SERVING.served.tls is not None:
        gevent.spawn(_look_daily)


def look(clock: Callable[[], float] = time) -> None:
    """Tell the metrics, and warn when the end is near; ``clock`` gives seconds since 1970."""
    served = SERVING.served
    if served is None or served.tls is None:
        return
    CERTIFICATE_END.at = end = ends_at(served.tls.certificate)
    left_s = end - clock()
    if left_s < 0:
        log.error("the certificate %s has expired: clients refuse it", served.config.tls.cert_path)
    elif left_s < WARNED_S:
        days = int(left_s // DAY_S)
        log.warning(
            "the certificate %s expires in %s %s: renew it, and send SIGHUP",
            served.config.tls.cert_path,
            days,
            "day" if days == 1 else "days",
        )


def ends_at(pem: bytes) -> float:
    """The end of the first certificate of a chain (seconds since 1970)."""
    return load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()


def _look_daily() -> None:
    while True:
        look()
        gevent.sleep(LOOK_INTERVAL_S)
