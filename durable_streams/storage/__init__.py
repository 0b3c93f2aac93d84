"""Where the bytes lie: one storage each, all behind the contract of ``store.contract``."""
