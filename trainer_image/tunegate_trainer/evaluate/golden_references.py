"""The references of golden cases that need no tokenizer."""

from collections.abc import Iterable, Mapping
from typing import Any

from tunegate_api.cases.expectations import (
    CallsExpectation,
    CaseTolerance,
    CustomExpectation,
    GuardrailExpectation,
    JsonExpectation,
    JudgeExpectation,
    LabelExpectation,
    Leaf,
    NumberExpectation,
    OverlapExpectation,
    SchemaExpectation,
    TextExpectation,
    leaves,
)
from tunegate_api.cases.golden import GoldenCase
from tunegate_api.meta import exact
from tunegate_trainer.graders.exact.expected_text import ExpectedText
from tunegate_trainer.graders.exact.labels import ExpectedLabel, f1_label, label_indices
from tunegate_trainer.graders.exact.numeric import ExpectedNumber
from tunegate_trainer.graders.exact.rouge import ExpectedOverlap


def golden_labels(cases: Iterable[GoldenCase]) -> dict[str, int]:
    """Return the index of each label that the cases of a golden set expect."""
    found = (leaf for case in cases for leaf in leaves(case.expect))
    return label_indices(leaf.value for leaf in found if isinstance(leaf, LabelExpectation))


def plain_reference(expectation: Leaf, labels: Mapping[str, int]) -> Any:
    """Return what the scorer of an expectation compares an output with: the expectation itself if its type is
    not named here. ``labels`` has the index of each label of the golden set.

    Raises TypeError for expected tool calls, whose text depends on the chat template.
    """
    match expectation:
        case TextExpectation():
            return ExpectedText(
                expectation.value,
                tuple(expectation.normalize),
                expectation.trim,
                expectation.dialect,
                tuple(expectation.until),
                expectation.extract,
                tuple(expectation.ignore),
            )
        case LabelExpectation():
            return ExpectedLabel(f1_label(expectation.value), labels)
        case NumberExpectation():
            tolerance = expectation.tolerance or CaseTolerance()
            distances = (exact(each or "0") for each in (tolerance.absolute, tolerance.relative))
            return ExpectedNumber(expectation.value, *distances)
        case OverlapExpectation():
            return ExpectedOverlap(expectation.value, exact(expectation.min))
        case SchemaExpectation():
            return expectation.schema_
        case JsonExpectation() | CustomExpectation():
            return expectation.value
        case JudgeExpectation():
            return expectation.rubric
        case GuardrailExpectation():
            return expectation.rating
        case CallsExpectation():
            raise TypeError("expected tool calls are rendered by a chat template")
        case _:
            return expectation
