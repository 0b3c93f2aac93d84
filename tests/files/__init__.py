"""The file modes: what is theirs alone. What every storage has in common is in tests/contract."""
