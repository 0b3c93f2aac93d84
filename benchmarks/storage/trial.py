"""One measurement in a process of its own: a JSON list [name, arguments] comes as argument, a JSON object goes out.

A fresh process for each, so that no measurement sees the memory, the threads or the slow disk of another.
"""

# ruff: noqa: E402
from gevent import monkey

monkey.patch_all()

import json
import sys
from collections.abc import Callable
from typing import Any, Final

from benchmarks.storage.opening import create_many, measure_opening
from benchmarks.storage.producers import measure_producers
from benchmarks.storage.reading import measure_reading, write_large
from benchmarks.storage.writing import measure_writing

TRIALS: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    function.__name__: function
    for function in (
        measure_writing,
        write_large,
        measure_reading,
        create_many,
        measure_opening,
        measure_producers,
    )
}


if __name__ == "__main__":
    name, arguments = json.loads(sys.argv[1])
    print(json.dumps(TRIALS[name](*arguments)))
