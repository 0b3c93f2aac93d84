"""Limits by name prefix: which rules hold for a stream, and what the streams of a prefix hold together."""
