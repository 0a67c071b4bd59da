"""When a delivery is tried again."""

from waypost.routing.route import Backoff


def next_attempt_at(backoff: Backoff, attempts: int, now: float, chance: float) -> float:
    """Seconds since the epoch of the next attempt, after `attempts` that were made.

    `chance`, from 0 to 1, spreads the attempts: the interval is changed by at most `backoff.jitter`, as a share
    of it, in either direction.
    """
    if not backoff.intervals:
        return now
    interval = backoff.intervals[min(max(attempts, 1), len(backoff.intervals)) - 1]
    return now + interval * (1 + backoff.jitter * (2 * chance - 1))
