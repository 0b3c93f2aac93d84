"""What the `postgres` mode should reach, and whether it does."""

from __future__ import annotations

from collections.abc import Mapping

Rows = Mapping[str, Mapping[str, float]]


def served_by(workers: int) -> str:
    """The name of a row of HTTP requests, after the method."""
    return f"postgres, {workers} worker{'s' * (workers > 1)}" if workers else "memory"


def verdicts(rows: Rows) -> list[str]:
    """A line in Markdown for each."""
    return [
        f"- {text}: {value:,.2f} of at most {most:,.2f}: {'reached' if value <= most else '**missed**'}"
        for text, value, most in bounds(rows)
    ]


def bounds(rows: Rows) -> list[tuple[str, float, float]]:
    """Sentence, figure, the most it may be."""

    def server(row: str) -> float:
        return rows[row]["server_us"]

    def database(row: str) -> float:
        return rows[row]["database_us"]

    def both(row: str) -> float:
        return server(row) + database(row)

    pipeline, many = "append, 32 writers, a producer each", "append, 32 writers, 100,000 producers"
    found = [
        ("append through the pipeline, server us", server(pipeline), 25.0),
        ("append through the pipeline, database us", database(pipeline), 20.0),
        ("append with 100,000 producers to one with 32", both(many) / both(pipeline), 1.5),
        ("append to 1 GB to one to 1 KB", both("append to 1 GB") / both("append to 1 KB"), 1.2),
        ("catch-up, us of a core a MB", 1e6 / rows["catch-up"]["mb_per_core_s"], 1e6 / 200),
    ]
    for method, most_database_us in (("POST", 60.0), ("GET", 15.0)):
        memory, one, two = (f"{method}, {served_by(workers)}" for workers in (0, 1, 2))
        found += [
            (f"small {method}, server to memory mode", server(one) / server(memory), 1.5),
            (f"small {method}, database us", database(one), most_database_us),
            (f"small {method}, two workers without affinity to one", both(two) / both(one), 1.5),
        ]
    if "idle streams" in rows:
        idle = rows["idle streams"]
        found.append(("a million idle streams, MB", idle["bytes"] / idle["streams"], 400.0))
    return found
