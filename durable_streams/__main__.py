"""`python -m durable_streams` is the command line."""

import sys

from durable_streams.cli import main

if __name__ == "__main__":
    sys.exit(main())
