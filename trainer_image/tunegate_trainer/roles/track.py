"""The track role: send the trackers the metrics that earlier pods could not send, and how the job ended."""

from tunegate_api.contract import Outcome
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import TrackersBehindError


def run(context: Context) -> Outcome:
    """Wait until each tracker has all metrics. Raises :class:`TrackersBehindError` if one does not."""
    behind = context.trackers.wait() if context.trackers else []
    if behind:
        raise TrackersBehindError(f"{' and '.join(behind)}: some metrics were not sent; see the log")
    return Outcome.COMPLETED
