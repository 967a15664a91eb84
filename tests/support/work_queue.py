"""Look into the work queue of an operator."""

from tunegate_operator.engine.queue import WorkQueue


def next_due(queue: WorkQueue) -> float | None:
    """Return the seconds until a worker can take the next key: 0 if a key is ready, None if no key is
    queued."""
    with queue._changed:
        now = queue._clock.monotonic()
        queue._add_due(now)
        if queue._ready:
            return 0.0
        return queue._delayed[0][0] - now if queue._delayed else None
