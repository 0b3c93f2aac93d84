"""A disk to test storages with: it records what is written and synced, shows what a power cut could leave, and fails."""
