"""The HTTP layer: Flask, headers, status codes."""
