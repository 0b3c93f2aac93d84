"""Idempotent producers: the validation table of section 5.2.1, row for row."""

from __future__ import annotations

from durable_streams.protocol.errors import BadRequest, ProducerSeqGap, StaleEpoch
from durable_streams.protocol.requests import Producer
from durable_streams.protocol.state import ProducerState


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
