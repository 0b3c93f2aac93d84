"""What the server keeps for itself, durably, in streams that no client sees: documents, histories, leases."""
