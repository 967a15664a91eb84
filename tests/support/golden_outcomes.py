"""Judge outputs by golden cases, without a model."""

from typing import Any

from tunegate_api.cases.golden import GoldenCase
from tunegate_trainer.evaluate.expected import combined, expected_outputs, placed
from tunegate_trainer.evaluate.golden_references import plain_reference
from tunegate_trainer.evaluate.scoring import is_forbidden_empty
from tunegate_trainer.graders import Sample
from tunegate_trainer.graders.table import GRADERS


def outcome(case: dict[str, Any], output: str) -> str:
    """Return the outcome of an output as one letter, for a case as it is written in a golden set."""
    golden = GoldenCase.model_validate(case)
    if is_forbidden_empty(golden, output):
        return "f"
    expected = expected_outputs(
        golden.expect, lambda leaf: GRADERS[leaf.type], lambda leaf: plain_reference(leaf, {})
    )
    scores = {
        place: next(iter(each.scorer.score([Sample("", output, each.reference, golden)])))
        for place, each in placed(expected)
    }
    return combined(expected, scores).outcome
