"""Where the bytes lie: the storages, all behind the contract of ``storage.contract``."""
