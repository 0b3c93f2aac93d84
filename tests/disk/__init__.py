"""A disk for tests: it records what is written and synced, shows what a power cut could leave, and fails."""
