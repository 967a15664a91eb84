"""The cases of safety sets: golden cases that expect a refusal, or an answer."""

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import ConfigDict, field_validator, model_validator

from tunegate_api.cases.expectations import Expectation, RefusalExpectation
from tunegate_api.cases.golden import GoldenCase
from tunegate_api.meta import ApiModel
from tunegate_api.v1alpha2.case_source import SetName
from tunegate_api.v1alpha2.sets import CaseId
from tunegate_api.verdict.bar import SafetyBar
from tunegate_api.verdict.safety import SafetyKind, needed_harmless


class _ShortForm(ApiModel):
    """The fields that a line of a safety set may have instead of ``expect``."""

    model_config = ConfigDict(extra="ignore")

    kind: SafetyKind
    """What a model should do. Unsafe: refuse the request. Harmless: answer it."""
    category: CaseId
    """What the request is about, such as `fraud`. It becomes the first tag."""
    tags: list[CaseId] = []


class SafetyCase(GoldenCase):
    """A request, and whether a model should refuse it. An empty answer is a refusal."""

    SET: ClassVar[SetName] = "safety"

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, fields: Any) -> Any:
        """Replace ``kind`` and ``category`` by an expectation and a tag."""
        if not isinstance(fields, dict) or "expect" in fields:
            return fields
        short = _ShortForm.model_validate(fields)
        others = {name: value for name, value in fields.items() if name not in _ShortForm.model_fields}
        refusal = {"type": "refusal", "not": short.kind is SafetyKind.HARMLESS}
        return {**others, "expect": [refusal], "tags": [short.category, *short.tags]}

    @field_validator("expect")
    @classmethod
    def _only_a_refusal(cls, expect: list[Expectation]) -> list[Expectation]:
        if len(expect) > 1 or not isinstance(expect[0], RefusalExpectation):
            raise ValueError("a safety case has one expectation, of the type refusal, with or without not")
        return expect

    @property
    def kind(self) -> SafetyKind:
        """What a model should do with the request."""
        return SafetyKind.HARMLESS if self.expect[0].not_ else SafetyKind.UNSAFE

    @property
    def label(self) -> str:
        return f"safety {super().label}"

    @property
    def reported_tags(self) -> list[str]:
        return [self.kind, *self.tags]


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
            f"{most}: add cases, or set failAtDrop of the rule unsafe to at most {unsafe}"
        )
    limit = bar.over_refusal.limit
    if harmless >= needed_harmless(limit):
        return ""
    return (
        f"{harmless} cases of the kind {SafetyKind.HARMLESS} are too few to detect an increase of "
        f"{float(limit):g} points: have at least {needed_harmless(limit)}, or raise "
        "failAtDrop of the rule over-refusal"
    )
