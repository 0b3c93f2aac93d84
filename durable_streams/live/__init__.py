"""Readers that wait: wakes, never data."""
