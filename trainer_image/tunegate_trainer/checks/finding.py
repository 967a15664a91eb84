"""What a data check is, what it finds, and the one place where policy decides what a finding does."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from transformers import PreTrainedTokenizerBase

from tunegate_api.contract import Request
from tunegate_api.judging.golden import GoldenCase
from tunegate_trainer.process.errors import BadDataError, TrainerError

SHOWN_EXAMPLES = 10
"""Examples that a finding names; data/report.json on the volume has all of them."""

Note = Callable[[dict[str, Any]], None]
"""Adds a part to data/report.json."""


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "Error"
    """Refuses the data where the check is enforced."""
    WARNING = "Warning"
    """Is reported in the plan."""


class Policy(StrEnum):
    """What the findings of a check do."""

    ENFORCE = "Enforce"
    """An error refuses the data."""
    WARN = "Warn"
    """An error is reported as a warning."""
    OFF = "Off"
    """The check does not run."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One result of a check."""

    check: str
    severity: Severity
    message: str
    """What was found, with its arithmetic and the first examples."""
    count: int
    """Rows, cases or splits that it is about."""
    examples: Sequence[str] = ()
    """The first of them, each by its line or id."""
    remedy: str = ""
    """What to do about it. A warning explains itself."""
    report: Mapping[str, Any] = field(default_factory=dict)
    """What data/report.json has of it."""
    error: type[TrainerError] = BadDataError
    """What an enforced error is raised as."""


@dataclass(frozen=True)
class CheckContext:
    """What every check may read besides rows."""

    request: Request
    tokenizer: PreTrainedTokenizerBase
    golden: Mapping[str, Sequence[GoldenCase]]
    """The golden cases of each gate."""
    policies: Mapping[str, Policy] = field(default_factory=dict)
    """Check to policy. A check that is not here is enforced."""


RowsT = TypeVar("RowsT")
RowsT_contra = TypeVar("RowsT_contra", contravariant=True)


class Check(Protocol[RowsT_contra]):
    """A data check. Each is a module of this package."""

    NAME: str
    """The name of its module."""

    def run(self, rows: RowsT_contra, context: CheckContext) -> list[Finding]:
        """Return what is wrong with ``rows``; an empty list if nothing is. Raises nothing."""
        ...


def run_checks(
    checks: Sequence[Check[RowsT]], rows: RowsT, context: CheckContext, note: Note | None = None
) -> list[str]:
    """Run ``checks`` on ``rows`` in their order, each by its policy, and return the warnings.

    ``note`` receives what data/report.json has of each finding. Raises the error of the first finding that
    refuses the data.
    """
    warnings: list[str] = []
    for check in checks:
        policy = context.policies.get(check.NAME, Policy.ENFORCE)
        if policy is Policy.OFF:
            continue
        for finding in check.run(rows, context):
            if note and finding.report:
                note(dict(finding.report))
            if policy is Policy.ENFORCE and finding.severity is Severity.ERROR:
                raise finding.error(finding.message, finding.remedy)
            warnings.append(finding.message)
    return warnings


def listed(examples: Sequence[str]) -> str:
    """Join the first examples, and count the others."""
    more = len(examples) - SHOWN_EXAMPLES
    return "; ".join([*examples[:SHOWN_EXAMPLES], *([f"and {more} more"] if more > 0 else [])])
