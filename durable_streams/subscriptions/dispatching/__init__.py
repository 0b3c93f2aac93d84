"""Working through the subscriptions: when each is due, and the steps that it is taken."""
