"""Finding what was appended while nobody was told: at the start, and when wakes of other processes were lost.

Each linked stream is looked at, and each stream that a pattern may match: one pass over the names below the patterns'
literal prefixes, however many patterns there are. Nothing is written and no window is renewed.
"""

from __future__ import annotations

from durable_streams.subscriptions.registry import Registry
from durable_streams.subscriptions.tracked import Tracked


def reconcile(registry: Registry) -> None:
    """Bring every subscription up to date with its streams; raises Unavailable, and is then to be repeated."""
    for prefix in registry.index.prefixes():
        for names, streams in registry.streams.named(prefix):
            for name in names:
                for subscription_id in registry.index.watchers(name):
                    registry.see(subscription_id, name, streams.get(name))
    for names, streams in registry.streams.in_slices(registry.index.explicit_paths()):
        for name in names:
            for subscription_id in registry.index.watchers(name):
                registry.see(subscription_id, name, streams.get(name))


def reconcile_one(registry: Registry, tracked: Tracked) -> None:
    """The same for one subscription."""
    glob = tracked.sub.glob
    if glob is not None:
        for names, streams in registry.streams.named(glob.prefix):
            for name in names:
                if tracked.exists and tracked.sub.matches(name) and registry.index.may_match(name):
                    registry.see(tracked.id, name, streams.get(name))
    registry.look_at(tracked, tracked.linked_paths())
