"""Webhooks: keys that sign them, addresses that may receive them, and the client that sends them."""
