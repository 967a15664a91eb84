"""The report role: send the reports that earlier pods left in the outbox."""

from tunegate_api.contract import Outcome
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import UndeliveredError


def run(context: Context) -> Outcome:
    """Wait a bounded time until the operator has acknowledged all reports.

    Raises :class:`UndeliveredError` if it has not.
    """
    sender = context.report_sender
    if sender is None or not sender.close():
        why = f": {sender.refusals}" if sender and sender.refusals else ""
        raise UndeliveredError(f"the operator did not acknowledge the reports in the outbox{why}")
    return Outcome.COMPLETED
