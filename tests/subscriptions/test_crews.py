"""Who may work at once, and who is next when a place becomes free."""

from __future__ import annotations

import gevent
import pytest
from gevent.event import Event

from durable_streams.protocol.errors import Unavailable
from durable_streams.subscriptions.dispatching.crews import PAUSE_S, Crews
from durable_streams.subscriptions.tracked import Tracked


def test_the_place_is_free_when_the_end_of_a_step_is_told() -> None:
    ended: list[tuple[str, list[str]]] = []
    crews = Crews(
        1, lambda: 0.0, lambda tracked: ended.append((tracked.id, [t.id for t in crews.next_in_line()]))
    )
    go = Event()
    for name in ("a", "b", "c"):
        crews.begin(crews.deliveries, Tracked(name), lambda tracked: go.wait() and None)
    assert (len(crews), list(crews.next_in_line())) == (1, [])
    go.set()
    gevent.sleep(0.001)
    assert ended == [("a", ["b"])]
    assert len(crews) == 0


@pytest.mark.parametrize("error", [Unavailable("the disk is full"), RuntimeError("a mistake")])
def test_a_step_that_fails_rests_and_gives_its_place_back(error: Exception) -> None:
    def fail(tracked: Tracked) -> None:
        raise error

    ended: list[Tracked] = []
    crews = Crews(1, lambda: 100.0, ended.append)
    tracked = Tracked("a")
    crews.begin(crews.steps, tracked, fail)
    assert tracked in crews
    gevent.sleep(0.001)
    assert ended == [tracked]
    assert tracked not in crews
    assert tracked.rest_until == 100.0 + PAUSE_S


def test_what_does_not_end_is_cut_off_at_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    from durable_streams.subscriptions.dispatching import crews as module

    monkeypatch.setattr(module, "STOP_S", 0.0)
    ended: list[Tracked] = []
    crews = Crews(1, lambda: 0.0, ended.append)
    crews.begin(crews.deliveries, Tracked("a"), lambda tracked: gevent.sleep(3600))
    gevent.sleep(0)
    crews.end()
    assert len(crews) == 0
    assert len(ended) == 1
