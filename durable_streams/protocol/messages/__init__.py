"""JSON mode (section 9): how messages are checked, stored and sent, token for token."""
