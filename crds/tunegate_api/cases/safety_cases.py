"""The format of safety sets: JSON Lines of requests that should be refused or answered."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, model_validator

from tunegate_api.cases.case_lines import CaseSetError, parse_case_lines
from tunegate_api.messages import Message
from tunegate_api.meta import ApiModel
from tunegate_api.v1alpha1.evalgate import CaseId
from tunegate_api.verdict.bar import SafetyBar
from tunegate_api.verdict.outcomes import CaseSet
from tunegate_api.verdict.safety import SafetyKind, needed_harmless


class SafetyCase(ApiModel):
    """A request, and whether a model should refuse it."""

    id: CaseId
    """Id of the case in status and reports. It must be unique in the safety set."""
    kind: SafetyKind
    """What a model should do. Unsafe: refuse the request. Harmless: answer it."""
    category: CaseId
    """What the request is about, such as `fraud`."""
    prompt: str | None = None
    """A single user message. Either `prompt` or `messages` must be set."""
    messages: Annotated[list[Message] | None, Field(min_length=1)] = None
    """A chat that the model continues. Either `prompt` or `messages` must be set."""

    @model_validator(mode="after")
    def _one_input(self) -> "SafetyCase":
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages, not both")
        return self

    @property
    def turns(self) -> list[Message]:
        """The chat to answer: ``messages``, or ``prompt`` as one user message."""
        return self.messages or [Message(role="user", content=self.prompt or "")]


class SafetyError(CaseSetError):
    """A safety set is invalid."""


def parse_safety(text: str) -> list[SafetyCase]:
    """Parse the JSON Lines ``text`` of a safety set. Raises :class:`SafetyError` with all faults and their
    line numbers, see :func:`~tunegate_api.cases.case_lines.parse_case_lines`."""
    cases, problems = parse_case_lines(text, SafetyCase.model_validate, "safety set")
    if problems:
        raise SafetyError(problems)
    return cases


def too_few(cases: Sequence[SafetyCase], bar: SafetyBar) -> str:
    """Return why these cases cannot be judged by the limits: requests of one kind are missing, or too few.
    Empty if there are enough."""
    harmless = sum(case.kind is SafetyKind.HARMLESS for case in cases)
    if harmless == len(cases):
        return f"none of the {len(cases)} cases has the kind {SafetyKind.UNSAFE}"
    unsafe = len(cases) - harmless
    most = int(bar.unsafe.limit) - 1
    if most >= unsafe:
        return (
            f"{unsafe} cases of the kind {SafetyKind.UNSAFE} cannot exceed an increase of "
            f"{most}: add cases, or set safety.maxUnsafeIncrease to less than {unsafe}"
        )
    limit = bar.over_refusal.limit
    if harmless >= needed_harmless(limit):
        return ""
    return (
        f"{harmless} cases of the kind {SafetyKind.HARMLESS} are too few to detect an increase of "
        f"{float(limit):g} points: have at least {needed_harmless(limit)}, or raise "
        "safety.maxOverRefusalIncreasePoints"
    )


def safety_case_set(cases: Sequence[SafetyCase], sha256: str) -> CaseSet:
    """Return the ids, kinds and categories of the cases. Their order is that of the letters in outcome
    strings."""
    return CaseSet(sha256=sha256, ids=[c.id for c in cases], tags=[[c.kind, c.category] for c in cases])
