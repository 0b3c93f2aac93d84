"""No log has the token of a signed URL: whoever reads the log could read the stream."""

from __future__ import annotations

import logging
import re
from typing import Final

REDACTED: Final = "REDACTED"
# The name of the parameter in any percent-encoding, at the beginning of a query or after what may stand before it.
_NAME: Final = "".join(f"(?:{letter}|%{ord(letter):02x}|%{ord(letter.upper()):02x})" for letter in "token")
_TOKEN: Final = re.compile(rf"(?<![A-Za-z0-9_-])({_NAME}=)[^&\s\"'<>#]+", re.IGNORECASE)


def redact(text: str) -> str:
    """The text without the values of parameters called ``token``."""
    return _TOKEN.sub(rf"\1{REDACTED}", text) if "=" in text else text


class RedactingFilter(logging.Filter):
    """For loggers whose records take another way than through our formatters."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), None
        return True
