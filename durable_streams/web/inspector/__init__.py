"""The inspector: one page for people on top of the admin API and the streams' own API. docs/inspector.md."""
