"""What every storage shares that keeps its streams on disk."""
