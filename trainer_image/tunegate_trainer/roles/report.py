"""The report role: send the reports that earlier pods left in the outbox."""

from tunegate_api.contract.process import Outcome
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import UndeliveredError


def run(context: Context) -> Outcome:
    """Wait until the operator has acknowledged all reports, with a timeout.

    Raises :class:`UndeliveredError` if a report is not acknowledged in time.
    """
    sender = context.report_sender
    if sender is None or not sender.close():
        why = f": {sender.refusals}" if sender and sender.refusals else ""
        raise UndeliveredError(
            f"the operator did not acknowledge all reports in the outbox on the volume{why}",
            ""
            if why
            else "see the log of this pod, which has the operator's last answer or the network error",
        )
    return Outcome.COMPLETED
