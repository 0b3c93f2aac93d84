"""`make bench-subscriptions` in small: every row is measured, and the verdict follows from the figures."""

from __future__ import annotations

import pytest

from benchmarks import subscriptions as benchmark


@pytest.mark.parametrize(("most_us", "code", "verdict"), [(1e9, 0, "reached"), (-1e9, 1, "missed")])
def test_every_row_is_measured_and_judged(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    most_us: float,
    code: int,
    verdict: str,
) -> None:
    for name, value in (("SUBSCRIPTIONS", 20), ("LINKS", 200), ("APPENDS", 320), ("MOST_US", most_us)):
        monkeypatch.setattr(benchmark, name, value)
    assert benchmark.main(["--rounds", "2"]) == code
    rows = capsys.readouterr().out.splitlines()
    assert len([row for row in rows if row.startswith("| ")]) == 2 + 5
    assert rows[-1].endswith(f"{verdict}.")
