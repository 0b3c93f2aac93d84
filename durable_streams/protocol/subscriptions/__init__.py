"""Subscriptions decided purely: durable cursors that wake workers (sections 6 and 7)."""
