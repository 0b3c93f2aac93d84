"""What the Durable Streams protocol allows: pure decisions, without a clock, without input or output."""
