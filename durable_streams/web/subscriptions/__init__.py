"""Subscriptions in HTTP: everything below `{base}/__ds` (sections 6 and 7)."""
