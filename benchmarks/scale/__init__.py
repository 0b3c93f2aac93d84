"""What the `postgres` mode costs, and what many workers would do: measured here, and simulated from that."""
