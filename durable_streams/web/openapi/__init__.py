"""The OpenAPI 3.1 document of the whole HTTP surface, as this server serves it."""
