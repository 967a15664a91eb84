"""An example of a new grader: this module, and a line for ``OneByOne(common_characters)`` in the table of
graders."""

from collections import Counter

from tunegate_api.verdict.counts import Counts
from tunegate_api.verdict.outcomes import FAIL, PASS
from tunegate_trainer.graders import Sample, Score
from tunegate_trainer.graders.exact.one_by_one import OneByOne


def common_characters(sample: Sample) -> Score:
    """Score how many characters an output has in common with the labelled answer, in any order."""
    output, reference = Counter[str](sample.output[:1000]), Counter[str](sample.reference)
    counts = Counts(2 * (output & reference).total(), output.total() + reference.total())
    if output == reference:
        return Score(PASS, counts=counts)
    return Score(FAIL, f"has {counts} in common", counts)


scorer = OneByOne(common_characters)
"""The scorer as an object, as an entry point names it."""
