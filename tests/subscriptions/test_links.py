"""Whom a stream wakes: by name, by pattern, and at what cost for those that it does not wake."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from durable_streams.protocol.subscriptions.state import Link, Subscription
from durable_streams.subscriptions import links
from durable_streams.subscriptions.links import LinkIndex
from tests.subscriptions.scene import NOW, ROOT, pull_wake


def subscription(
    subscription_id: str, pattern: str | None, streams: Iterable[str] = (), wake_stream: str = "wake/pool"
) -> Subscription:
    found = Subscription(
        subscription_id,
        pull_wake(pattern=pattern, streams=tuple(streams), wake_stream=wake_stream),
        NOW,
        ROOT,
    )
    found.links = {path: Link(path, None, 0, explicit=True) for path in streams}
    return found


PATHS = st.sampled_from(["a", "b", "a/b", "a/b/c", "w/1", "w/2"])
PATTERNS = st.sampled_from([None, "**", "a/*", "a/**", "*/b", "w/*"])
SUBSCRIPTIONS = st.builds(
    lambda number, pattern, streams, wake: subscription(f"s{number}", pattern, streams, f"w/{wake}"),
    st.integers(0, 5),
    PATTERNS,
    st.sets(PATHS, max_size=3),
    st.integers(1, 3),
)


@given(st.lists(SUBSCRIPTIONS, max_size=6, unique_by=lambda found: found.id), st.data())
def test_the_index_says_what_the_links_say(subscriptions: list[Subscription], data: st.DataObject) -> None:
    index, there = LinkIndex(), {}
    for found in subscriptions:
        index.add(found)
        there[found.id] = found
        if data.draw(st.booleans()):
            path = data.draw(PATHS)
            found.links[path] = Link(path, None, 0, explicit=True)
            index.link_all(found.id, [found.links[path]])
        if data.draw(st.booleans()) and found.links:
            path = sorted(found.links)[0]
            index.unlink(found.id, path)
            del found.links[path]
        for path in ("a", "a/b", "w/1"):
            index.watchers(path)
        if data.draw(st.booleans()):
            index.remove(found)
            del there[found.id]
    channels = {channel for found in there.values() for channel in found.config.channels}
    for path in ("a", "b", "a/b", "a/b/c", "w/1", "w/2", "w/3", "z"):
        expected = {
            found.id
            for found in there.values()
            if found.is_explicit(path) or (found.matches(path) and path not in channels)
        }
        assert set(index.watchers(path)) == expected
        assert index.may_wake(path) is bool(expected)
        assert path in index.interest.names or not expected


def test_when_all_have_gone_nothing_is_kept() -> None:
    index = LinkIndex()
    found = [subscription(f"s{number}", "a/*", ["a", "b"]) for number in range(5)]
    for one in found:
        index.add(one)
    assert index.may_wake("never seen")
    for one in found:
        index.remove(one)
    assert not index.may_wake("a/b")
    assert "a/b" not in index.interest.names
    assert (index.prefixes(), index.explicit_paths(), len(index._patterns)) == ([], [], 0)
    assert (index._channels, index._pattern_texts, index._remembered) == ({}, {}, {})


def test_a_pattern_never_links_an_internal_stream() -> None:
    index = LinkIndex()
    index.add(subscription("s", "**"))
    for name in ("__ds", "__ds/subscriptions/s", "__ds/keys"):
        assert index.watchers(name) == ()
    assert index.watchers("__dsx") == ("s",)


def test_prefixes_cover_each_other() -> None:
    index = LinkIndex()
    for number, pattern in enumerate(["events/*", "events/a/*", "events/**", "x/y", "xx/*", "events-b/*"]):
        index.add(subscription(f"s{number}", pattern))
    assert index.prefixes() == ["events", "x/y", "xx/"]
    index.add(subscription("all", "**/z"))
    assert index.prefixes() == [""]


class Counting(dict):  # type: ignore[type-arg]
    """Counts its look-ups, however they are made."""

    def __init__(self, content: dict[object, object]) -> None:
        super().__init__(content)
        self.looked_up = 0

    def get(self, key: object, default: object = None) -> object:
        self.looked_up += 1
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self.looked_up += 1
        return super().__contains__(key)


def counted(index: LinkIndex) -> list[Counting]:
    """Every dictionary of the index, counting from now on."""
    index._explicit = Counting(index._explicit)  # type: ignore[assignment]
    index._remembered = Counting(index._remembered)  # type: ignore[assignment]
    index._patterns._root.children = Counting(index._patterns._root.children)  # type: ignore[assignment]
    return [index._explicit, index._remembered, index._patterns._root.children]  # type: ignore[list-item]


def test_d21_a_stream_that_nobody_watches_costs_one_look_up() -> None:
    for pattern in (None, "events/*"):
        index = LinkIndex()
        for number in range(1000):
            streams = [f"manual/{number}/{other}" for other in range(10)]
            index.add(subscription(f"s{number}", pattern, streams))
        assert not index.watchers("elsewhere")
        dictionaries = counted(index)
        for _ in range(100):
            assert not index.may_wake("elsewhere")
        assert sum(each.looked_up for each in dictionaries) == 100


def test_what_is_remembered_has_a_bound() -> None:
    index = LinkIndex()
    index.add(subscription("s", "a/*"))
    before, links.REMEMBERED_MAX = links.REMEMBERED_MAX, 100  # type: ignore[misc]
    try:
        for number in range(1000):
            assert index.watchers(f"a/{number}") == ("s",)
            assert len(index._remembered) <= 100
    finally:
        links.REMEMBERED_MAX = before  # type: ignore[misc]
