"""The admin API: what ``durable_streams/admin`` offers, said in HTTP."""
