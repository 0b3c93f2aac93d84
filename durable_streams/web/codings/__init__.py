"""Content codings: compressed responses, and request bodies that come compressed."""
