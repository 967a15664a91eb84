"""The interface of data checks, and what they find."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Any, Protocol, TypeVar

from transformers import PreTrainedTokenizerBase

from tunegate_api.cases.golden import GoldenCase
from tunegate_api.cases.safety_cases import SafetyCase
from tunegate_api.contract.request import Request
from tunegate_api.meta import summarize
from tunegate_api.v1alpha2.data_checks import CheckSetting
from tunegate_trainer.process.errors import BadDataError, TrainerError

DATA_REPORT = "data/report.json on the volume"
"""The file with all rows that the checks found, as messages name it."""
SHOWN_EXAMPLES = 10
"""Maximum number of examples in a finding. data/report.json on the volume has all of them."""


class Severity(StrEnum):
    """The severity of a finding."""

    ERROR = "Error"
    """The data is refused if the check is enforced."""
    WARNING = "Warning"
    """The finding is reported in the plan."""


ENFORCED = CheckSetting()
"""The setting of checks that have none in the spec."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One result of a check."""

    message: str
    """What was found, with its numbers and the first examples."""
    count: int
    """The number of faulty rows, pairs, cases or splits, or of missing rows."""
    severity: Severity = Severity.ERROR
    share: Fraction | None = None
    """The measured value that is compared with the limit of the check, such as the share of rows with the
    problem. Errors up to the limit are only counted. None if the check has no limit: every error counts."""
    measured: float | None = None
    """The measured value itself, if :attr:`share` is a bound of its confidence interval."""
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
    schemas: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """The JSON schema of each task metric that has one, by the metric's name."""
    settings: Mapping[str, CheckSetting] = field(default_factory=dict)
    """The setting of each check, by name. A check that is missing here is enforced."""
    required_gates: frozenset[str] = frozenset()
    """The names of the gates whose golden cases and safety sets must not be trained on, whatever the
    settings."""
    safety: Mapping[str, Sequence[SafetyCase]] = field(default_factory=dict)
    """The cases of each safety set, by the gate's name."""

    @property
    def kind_of_cases(self) -> str:
        """The kind of :attr:`gate_cases` in messages."""
        return "golden or safety" if self.safety else "golden"

    @property
    def gate_cases(self) -> list[tuple[str, GoldenCase]]:
        """The golden cases and the safety cases that must not be trained on, each with its gate's name."""
        sets: list[tuple[str, Sequence[GoldenCase]]] = [*self.golden.items(), *self.safety.items()]
        return [(gate, case) for gate, cases in sets for case in cases]

    def setting(self, check: str) -> CheckSetting:
        """Return the setting of the check with this name."""
        return self.settings.get(check, ENFORCED)


RowsT_contra = TypeVar("RowsT_contra", contravariant=True)


class Check(Protocol[RowsT_contra]):
    """The interface of a data check. Every module that :data:`CHECKS` lists implements it."""

    NAME: str
    """The name of the check's module."""

    def run(self, rows: RowsT_contra, context: CheckContext, /) -> Iterable[Finding]:
        """Return the problems found in ``rows``. A check raises no exception for bad data."""
        ...


def case_name(gate: str, case: GoldenCase) -> str:
    """Return the name of a gate's case in messages."""
    return f"{case.label} of EvalGate {gate}"


def listed(examples: Sequence[str], total: int | None = None) -> str:
    """Return a text with the first examples, and with the number of examples that are not shown. If
    ``examples`` has only the first ones, ``total`` is the number of all."""
    return summarize(examples, SHOWN_EXAMPLES, total=total, separator="; ", last="; and ")
