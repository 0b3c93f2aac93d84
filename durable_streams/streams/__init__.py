"""How a decision becomes durable: written once, for every backend."""
