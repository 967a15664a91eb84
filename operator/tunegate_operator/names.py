"""Names and labels of what the operator creates: deterministic, so a repeated step meets its own result."""

from dataclasses import dataclass

from tunegate_api import GROUP
from tunegate_api.contract import Role

JOB_LABEL = f"{GROUP}/job"
GATE_LABEL = f"{GROUP}/gate"
"""What belongs to a FineTuneJob, and what to an EvalGate, by its name."""
ROLE_LABEL = f"{GROUP}/role"
STAGE_LABEL = f"{GROUP}/stage"
ATTEMPT_LABEL = f"{GROUP}/attempt"
MANAGED_LABELS = {"app.kubernetes.io/managed-by": "tunegate"}

CONTINUE_ANNOTATION = f"{GROUP}/continue"
DISCARD_ANNOTATION = f"{GROUP}/discard"

MAX_LABEL = 63
MAX_INDEXED = 58 - len("-1023-")
"""Of the name of an Indexed Job: with the index behind it, no pod's name has it cut."""


@dataclass(frozen=True)
class Step:
    """One thing that a child Job does: a role, for training of one stage."""

    role: Role
    stage: str | None = None

    def __str__(self) -> str:
        return f"{self.role} {self.stage}" if self.stage else self.role


def child_name(job: str, uid: str, *parts: str) -> str:
    """``<job>-<parts>-<uid5>``, the job's name cut so that the whole is a valid label value.

    A child Job's parts are its role, its stage if it has one, and after the uid its attempt.
    """
    return _bounded(job, [*parts, uid[:5]])


def attempt_name(
    job: str, uid: str, role: str, stage: str | None, attempt: int, *, is_indexed: bool = False
) -> str:
    """The name of a child Job."""
    parts = [role, *([stage] if stage else []), uid[:5], str(attempt)]
    return _bounded(job, parts, MAX_INDEXED if is_indexed else MAX_LABEL)


def nodes_name(job: str, uid: str) -> str:
    """The Service by which pods that train together find each other. Its name begins with a letter, as it
    must, whatever the job's does."""
    return f"nodes-{child_name(job[: MAX_LABEL - 12], uid)}"


def _bounded(job: str, parts: list[str], longest: int = MAX_LABEL) -> str:
    tail = "-".join(parts)
    return f"{job[: longest - len(tail) - 1].rstrip('-')}-{tail}"


def request_name(job: str, uid: str) -> str:
    """The ConfigMap with spec and gates as they were read."""
    return child_name(job, uid, "request")


def plan_name(job: str, uid: str) -> str:
    """The ConfigMap with what was resolved before training."""
    return child_name(job, uid, "plan")


def results_name(job: str, uid: str) -> str:
    """The ConfigMap with the outcome of every case."""
    return child_name(job, uid, "results")


def records_name(gate: str, uid: str) -> str:
    """The ConfigMap with the outcome of every case of the models that an EvalGate judged."""
    return child_name(gate, uid, "records")


REQUEST_KEY, PLAN_KEY, RESULTS_KEY = "request.json", "plan.json", "results.json"
RECORDS_KEY = "records.json"
