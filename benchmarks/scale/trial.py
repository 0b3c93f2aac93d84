"""One measurement in a process of its own: a JSON list [name, arguments] comes as argument, a JSON object goes out."""

# ruff: noqa: E402
from gevent import monkey

monkey.patch_all()

import json
import sys

from benchmarks.scale import trials

if __name__ == "__main__":
    name, arguments = json.loads(sys.argv[1])
    print(json.dumps(getattr(trials, name)(*arguments)))
