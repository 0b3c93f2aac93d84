"""Idempotent producers: the validation table of section 5.2.1, row for row, and how long they are remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from durable_streams.persistent_map import some_entries, without_entry
from durable_streams.protocol.errors import BadRequest, ProducerSeqGap, StaleEpoch
from durable_streams.protocol.requests import Producer, StreamLimits
from durable_streams.protocol.state import NO_PRODUCERS, ProducerState, StreamState

LOOK_EVERY: Final = 16
"""One append in so many looks for silent producers, among at most 64 entries: that adds 3 % to an append."""


def is_duplicate(known: ProducerState | None, received: Producer) -> bool:
    """Whether this batch was accepted before; False means it is the next one.

    | epoch   | sequence    |                                                   |
    | ------- | ----------- | ------------------------------------------------- |
    | older   | any         | StaleEpoch, names the current epoch               |
    | newer   | 0           | accepted: a new session                           |
    | newer   | other       | BadRequest                                        |
    | same    | <= last     | duplicate                                         |
    | same    | last + 1    | accepted                                          |
    | same    | > last + 1  | ProducerSeqGap, names the expected one            |
    | unknown | 0           | accepted                                          |
    | unknown | other       | ProducerSeqGap: 0 was expected                    |
    """
    if known is None:
        if received.seq:
            raise ProducerSeqGap(0, received.seq)
        return False
    if received.epoch < known.epoch:
        raise StaleEpoch(known.epoch, received.epoch)
    if received.epoch > known.epoch:
        if received.seq:
            raise BadRequest(f"Invalid producer state: new epoch {received.epoch} must start at sequence 0")
        return False
    if received.seq <= known.seq:
        return True
    if received.seq > known.seq + 1:
        raise ProducerSeqGap(known.seq + 1, received.seq)
    return False


def known_producer(
    producers: Mapping[str, ProducerState], id: str, now: float, limits: StreamLimits
) -> ProducerState | None:
    """What is remembered of a producer; one that has been silent for too long is unknown, as if it were new."""
    known = producers.get(id)
    return None if known is None or _is_silent(known, now, limits) else known


def drop_silent(state: StreamState, now: float, limits: StreamLimits) -> Sequence[str]:
    """Forget some of the producers that have been silent for too long, and return their ids.

    Only for a state that a decision has not given away yet. Each call looks at a few producers, at most; over the
    revisions of a stream all of them are looked at.
    """
    turn, rest = divmod(state.revision, LOOK_EVERY)
    if rest or not limits.producer_ttl_s:
        return ()
    few = some_entries(state.producers, turn)
    silent = [id for id, known in few.items() if _is_silent(known, now, limits)]
    for id in silent:
        state.producers = without_entry(state.producers, id) or NO_PRODUCERS
    return silent


def _is_silent(producer: ProducerState, now: float, limits: StreamLimits) -> bool:
    return bool(limits.producer_ttl_s) and now - producer.seen_at > limits.producer_ttl_s
