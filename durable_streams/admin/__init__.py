"""What an operator sees of all streams and of the server, and does to them; knows no HTTP."""
