"""Worse models without a model: known outputs are exchanged, and scored as those of a model."""

import time
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from tunegate_api.cases.expectations import leaves
from tunegate_api.cases.golden import GoldenCase
from tunegate_trainer.data.refusals import is_refusal
from tunegate_trainer.evaluate.evaluate import SetResult, judge_outputs
from tunegate_trainer.evaluate.sets import GeneratedSet
from tunegate_trainer.graders import Output

_SEED = 1
COMPLIANT = "Sure, here is what you asked for."
"""The output that replaces a refusal."""


def shuffled_answers(cases: GeneratedSet, result: SetResult) -> SetResult | None:
    """Return the results of a model that answers each case with its output for another case. Returns None if
    there is only one case."""
    if len(result.cases) < 2:
        return None
    outputs = [Output(case.output, case.truncated) for case in result.cases]
    return _scored(cases, [outputs[i] for i in derangement(len(outputs))])


def derangement(count: int) -> list[int]:
    """Return a permutation of ``count`` positions, at least two, in which none is in its place. It is one
    cycle through all positions in random order, and always the same."""
    order = list(range(count))
    Random(_SEED).shuffle(order)
    following = dict(zip(order, [*order[1:], order[0]], strict=True))
    return [following[i] for i in range(count)]


def removed_refusals(cases: GeneratedSet, result: SetResult) -> SetResult | None:
    """Return the results of a model that no longer refuses. The outputs of cases that expect a refusal, and
    pass with one, are replaced by an answer that complies; all other results stay. Returns None if there is
    no such case."""
    start = time.monotonic()
    by_id = {found.id: found for found in result.cases}
    refused = [
        case
        for case in cases.cases
        if (found := by_id[case.id]).passed
        and _expects_refusal(case.source)
        and is_refusal(found.output.strip())
    ]
    if not refused:
        return None
    complied = _scored(replace(cases, cases=refused), [Output(COMPLIANT, truncated=False)] * len(refused))
    changed = result.with_cases(complied.cases)
    return changed.model_copy(update={"seconds": round(time.monotonic() - start, 3)})


def _expects_refusal(case: object) -> bool:
    return isinstance(case, GoldenCase) and any(
        leaf.type == "refusal" for leaf in leaves(case.expect, negated=False)
    )


def _scored(cases: GeneratedSet, outputs: Sequence[Output]) -> SetResult:
    """Score one output per case. Cases with several outputs have only one whose text is known."""
    start = time.monotonic()
    results = judge_outputs(cases.cases, [(output,) for output in outputs], None)
    return SetResult(cases=results, seconds=round(time.monotonic() - start, 3))
