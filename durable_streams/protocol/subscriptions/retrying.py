"""What the dispatcher has to do next for a subscription, and when; and how long a failed delivery waits (section 7).

It is read off the state, so a subscription goes on after a restart exactly where the state says that it stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from durable_streams.protocol.subscriptions.state import Phase, Subscription

DELAY_S_MIN: Final = 1.0
DELAY_S_MAX: Final = 60.0
JITTER: Final = 0.2


def retry_delay_s(attempt: int, chance: float) -> float:
    """Seconds until the next attempt after ``attempt`` failures (from 1): 1, 2, 4 ... 60, give or take a fifth.

    ``chance``, from 0 to 1, spreads receivers that failed together.
    """
    doubled = DELAY_S_MIN * 2.0 ** min(attempt - 1, 16)
    return min(doubled, DELAY_S_MAX) * (1 - JITTER + 2 * JITTER * chance)


class Step(StrEnum):
    REST = "rest"
    WAKE_UP = "wake up"
    DELIVER = "deliver"
    EXPIRE = "expire"
    BURY = "bury"


@dataclass(frozen=True, slots=True)
class NextStep:
    """``at``: when it is due, in seconds since 1970; of REST, when nothing is to be done before something happens."""

    step: Step
    at: float = 0.0


REST: Final = NextStep(Step.REST)


def next_step(found: Subscription, pending_since: float | None) -> NextStep:
    """What comes next. ``pending_since``: since when any linked stream has been pending; None: none is."""
    wake = found.wake
    if wake is None:
        if found.paused or pending_since is None:
            return REST
        return NextStep(Step.WAKE_UP, pending_since + found.config.batch_ms / 1000)
    if wake.phase is Phase.HELD:
        return NextStep(Step.EXPIRE, wake.lease_until)
    if found.paused:
        return REST
    due_at = wake.issued_at if wake.next_attempt_at is None else wake.next_attempt_at
    return NextStep(Step.BURY if wake.phase is Phase.CONDEMNED else Step.DELIVER, due_at)


def resume(found: Subscription, now: float) -> None:
    """Bound the times of a wake that was loaded: the clock may have been set back while nobody served."""
    wake = found.wake
    if wake is None:
        return
    wake.issued_at = min(wake.issued_at, now)
    wake.lease_until = min(wake.lease_until, now + found.config.lease_ttl_s)
    if wake.next_attempt_at is not None:
        wake.next_attempt_at = min(wake.next_attempt_at, now + DELAY_S_MAX * (1 + JITTER))
