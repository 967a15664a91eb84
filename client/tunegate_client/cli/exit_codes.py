"""Exit codes of the commands."""

from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_api.v1alpha2.reasons import Phase
from tunegate_api.verdict.outcomes import VerdictState

FAILED, USAGE, STOPPED, SUSPENDED, NOT_MEASURED, INTERRUPTED = 1, 2, 3, 4, 5, 130
_OF_PHASES = {
    Phase.SUCCEEDED: 0,
    Phase.STOPPED: STOPPED,
    Phase.SUSPENDED: SUSPENDED,
    Phase.AWAITING_REVIEW: SUSPENDED,
    Phase.AWAITING_APPROVAL: SUSPENDED,
}
_SEVERITY = (0, SUSPENDED, FAILED, USAGE, STOPPED)
"""Exit codes from least to most severe."""


def of_job(status: FineTuneJobStatus) -> int:
    """Return the exit code for the phase of a job."""
    return _OF_PHASES.get(status.phase or Phase.PENDING, FAILED)


def of_verdict(state: VerdictState) -> int:
    """Return the exit code for a verdict. Only Passed gives 0."""
    return {VerdictState.PASSED: 0, VerdictState.FAILED: FAILED}.get(state, NOT_MEASURED)


def worst(*codes: int) -> int:
    """Return the most severe of several exit codes."""
    return max(codes, key=_SEVERITY.index)
