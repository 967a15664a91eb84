"""The interface of data checks, their findings, and :func:`run_checks`, which applies the policies."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from transformers import PreTrainedTokenizerBase

from tunegate_api.contract import Request
from tunegate_api.judging.golden import GoldenCase
from tunegate_trainer.process.errors import BadDataError, TrainerError

SHOWN_EXAMPLES = 10
"""Maximum number of examples in a finding. data/report.json on the volume has all of them."""

Note = Callable[[dict[str, Any]], None]
"""Adds keys to data/report.json."""


class Severity(StrEnum):
    """The severity of a finding."""

    ERROR = "Error"
    """The data is refused if the check is enforced."""
    WARNING = "Warning"
    """The finding is reported in the plan."""


class Policy(StrEnum):
    """How the findings of a check are handled."""

    ENFORCE = "Enforce"
    """If the check finds an error, the data is refused."""
    WARN = "Warn"
    """If the check finds an error, it is reported as a warning."""
    OFF = "Off"
    """The check does not run."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One result of a check."""

    check: str
    severity: Severity
    message: str
    """What was found, with its numbers and the first examples."""
    count: int
    """The number of rows, cases or splits with the problem."""
    examples: Sequence[str] = ()
    """The first rows, cases or splits with the problem, each with its line or id."""
    remedy: str = ""
    """What the user can do about the problem. Empty for warnings, whose message says it if necessary. Not
    shown if the policy reports an error as a warning."""
    report: Mapping[str, Any] = field(default_factory=dict)
    """The keys that this finding adds to data/report.json."""
    error: type[TrainerError] = BadDataError
    """The exception that an enforced error raises."""


@dataclass(frozen=True)
class CheckContext:
    """The inputs, apart from the rows, that every check can read."""

    request: Request
    tokenizer: PreTrainedTokenizerBase
    golden: Mapping[str, Sequence[GoldenCase]]
    """The golden cases of each gate, by the gate's name."""
    policies: Mapping[str, Policy] = field(default_factory=dict)
    """The policy of each check, by name. A check that is missing here is enforced."""


RowsT = TypeVar("RowsT")
RowsT_contra = TypeVar("RowsT_contra", contravariant=True)


class Check(Protocol[RowsT_contra]):
    """The interface of a data check. Every module that :data:`CHECKS` lists implements it."""

    NAME: str
    """The name of the check's module."""

    def run(self, rows: RowsT_contra, context: CheckContext) -> list[Finding]:
        """Return the problems found in ``rows``, or an empty list. A check raises no exception for bad
        data."""
        ...


def run_checks(
    checks: Sequence[Check[RowsT]], rows: RowsT, context: CheckContext, note: Note | None = None
) -> list[str]:
    """Run ``checks`` on ``rows`` in order, apply their policies, and return the messages of warnings.

    ``note`` receives the keys that each finding adds to data/report.json. Raises the error of the first
    finding that refuses the data.
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
    """Return a text with the first examples, and with the number of examples that are not shown."""
    more = len(examples) - SHOWN_EXAMPLES
    return "; ".join([*examples[:SHOWN_EXAMPLES], *([f"and {more} more"] if more > 0 else [])])
