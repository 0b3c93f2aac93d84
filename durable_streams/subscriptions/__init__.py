"""Wakes that leave the process: subscriptions kept durably, and delivered by webhook and by wake streams (6, 7)."""
