"""This server against its peers."""
