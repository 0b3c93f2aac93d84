"""The hub: who waits for a change of a stream is woken by it once, by no other, and leaves nothing behind."""

from __future__ import annotations

import random

import gevent
from gevent.event import Event

from durable_streams.live.hub import Hub

PATIENCE_S = 180.0


def test_a_change_wakes_those_who_watch_that_stream() -> None:
    hub = Hub()
    with hub.watch("a") as first, hub.watch("a") as second, hub.watch("b") as other:
        events = first.event(), second.event()
        elsewhere = other.event()
        hub.announce("a")
        assert [event.is_set() for event in events] == [True, True]
        assert not elsewhere.is_set()


def test_a_change_between_the_look_and_the_wait_is_not_missed() -> None:
    hub = Hub()
    with hub.watch("a") as watch:
        event = watch.event()
        hub.announce("a")
        assert event.wait(0)


def test_nobody_is_woken_twice_by_one_change() -> None:
    hub = Hub()
    with hub.watch("a") as watch:
        hub.announce("a")
        assert not watch.event().is_set()


def test_a_change_that_nobody_watches_costs_nothing_that_stays() -> None:
    hub = Hub()
    hub.announce("a")
    with hub.watch("a") as watch:
        assert not watch.event().is_set()
    hub.announce("a")
    assert (hub.watchers, hub._events, hub._watchers) == (0, {}, {})


def test_a_place_is_given_up_also_by_a_reader_that_is_killed() -> None:
    hub = Hub()

    def wait_for_ever() -> None:
        with hub.watch("a") as watch:
            watch.event().wait()

    readers = [gevent.spawn(wait_for_ever) for _ in range(3)]
    gevent.sleep(0)
    assert hub.watchers == 3
    readers[0].kill()
    assert hub.watchers == 2
    gevent.killall(readers)
    assert (hub.watchers, hub._events) == (0, {})


def test_a_reader_that_goes_does_not_take_the_wake_of_the_others() -> None:
    hub = Hub()
    with hub.watch("a") as stays:
        with hub.watch("a"):
            pass
        event = stays.event()
        hub.announce("a")
        assert event.is_set()


def test_lost_wakes_wake_everybody_once() -> None:
    hub = Hub()
    with hub.watch("a") as first, hub.watch("b") as second:
        events = first.event(), second.event()
        assert sorted(hub.watched()) == ["a", "b"]
        hub.announce_all()
        assert [event.is_set() for event in events] == [True, True]
        assert not first.event().is_set()
    assert not list(hub.watched())


def test_the_stop_wakes_everybody_and_is_seen_by_those_who_come_later() -> None:
    hub = Hub()
    with hub.watch("a") as first, hub.watch("b") as second:
        events = first.event(), second.event()
        hub.stop()
        assert [event.is_set() for event in events] == [True, True]
    assert hub.stopping


def test_readers_who_look_then_wait_see_every_change() -> None:
    """Writers and readers at random: whoever waits after a look has been told of everything since that look."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chosen = random.Random(seed)
    hub = Hub()
    versions = {"a": 0, "b": 0}
    last = 200

    def pause() -> None:
        gevent.sleep(0 if chosen.random() < 0.7 else 0.0005)

    def write(name: str) -> None:
        for _ in range(last):
            versions[name] += 1
            hub.announce(name)
            if chosen.random() < 0.5:
                pause()

    def read(name: str) -> None:
        seen = 0
        while seen < last:
            with hub.watch(name) as watch:
                for _ in range(chosen.randint(1, 5)):
                    event: Event = watch.event()
                    seen = versions[name]
                    if seen == last:
                        return
                    if chosen.random() < 0.3:
                        pause()
                    event.wait()

    greenlets = [gevent.spawn(read, name) for name in versions for _ in range(10)]
    greenlets += [gevent.spawn(write, name) for name in versions]
    with gevent.Timeout(PATIENCE_S):
        gevent.joinall(greenlets, raise_error=True)
    assert (hub.watchers, hub._events) == (0, {})
