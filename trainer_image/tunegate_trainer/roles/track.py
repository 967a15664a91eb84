"""The track role: send the metrics that earlier pods could not send, and the end of the job, to the
trackers."""

from tunegate_api.contract.process import Outcome
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import TrackersBehindError


def run(context: Context) -> Outcome:
    """Wait until the process of each tracker has ended. Raises :class:`TrackersBehindError` if a tracker does
    not have all metrics."""
    behind = context.trackers.wait() if context.trackers else []
    if behind:
        raise TrackersBehindError(
            f"some metrics were not sent to {' and '.join(behind)}",
            "the pod's log has the errors of the trackers",
        )
    return Outcome.COMPLETED
