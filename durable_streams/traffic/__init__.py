"""How much a client may ask for: rates, quotas, and the limits that the settings make for a store."""

from typing import Final

RATE_HEADERS: Final = "durable_streams.rate_headers"
"""The key of the environ that holds the headers with which every answer to the request says what is left."""
