"""Find weak golden cases: no output can pass, almost every output passes, or the case is there twice."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from tunegate_api.cases.expectations import (
    CallsExpectation,
    CustomExpectation,
    Expectation,
    GuardrailExpectation,
    JsonExpectation,
    JudgeExpectation,
    LabelExpectation,
    Leaf,
    NumberExpectation,
    OverlapExpectation,
    TextExpectation,
    leaves,
)
from tunegate_api.cases.golden import GoldenCase, case_groups, prompt_key
from tunegate_api.cases.golden_findings import GoldenFinding, LintedGolden
from tunegate_api.cases.normalize import normalized
from tunegate_api.meta import summarize
from tunegate_api.verdict.outcomes import FAIL, PASS
from tunegate_trainer.evaluate.contradictions import contradiction
from tunegate_trainer.evaluate.expected import combined, expected_outputs, placed
from tunegate_trainer.evaluate.golden_references import golden_labels, plain_reference
from tunegate_trainer.evaluate.scoring import EMPTY, is_forbidden_empty
from tunegate_trainer.graders import Sample, Score
from tunegate_trainer.graders.grader import quoted
from tunegate_trainer.graders.table import GRADERS

TRIED = (
    "Bananas are yellow.",
    "42",
    "yes",
    "I'm sorry, but I can't help with that.",
    "{}",
    '["a", 1]',
    "答え\n二行目",
    "word " * 2000,
)
"""Outputs without anything in common. A case that passes all of them can hardly fail."""
EDGE = ("edge", "empty", "long", "language")
ADVERSARIAL = ("adversarial", "attack", "injection", "jailbreak")
"""Words in the tags that cases of these kinds usually have."""
_NAMED = 5


def lint(cases: Sequence[GoldenCase]) -> LintedGolden:
    """Return the weaknesses of a golden set."""
    tried = [case for case in cases if _is_triable(case)]
    found = [
        *_unpassable(cases, golden_labels(cases)),
        *_unfailable(tried, golden_labels(cases)),
        *_duplicates(cases),
        *_tags(cases),
    ]
    untried = [case.id for case in cases if not _is_triable(case)]
    found.sort(key=lambda finding: finding.severity != "Error")
    groups = case_groups(cases)
    return LintedGolden(cases=len(cases), groups=groups, untried=untried, findings=found)


def _is_triable(case: GoldenCase) -> bool:
    """Whether the expectations can be evaluated without a tokenizer, the user's scorers and servers."""
    untried = CallsExpectation | CustomExpectation | JudgeExpectation | GuardrailExpectation
    return not any(isinstance(each, untried) for each in leaves(case.expect))


def _unpassable(cases: Sequence[GoldenCase], labels: Mapping[str, int]) -> Iterator[GoldenFinding]:
    """Find cases whose expectations contradict each other, and those whose expected answer does not meet the
    other expectations in its usual forms."""
    for case in cases:
        reason = contradiction(case)
        failing = _failing_answer(case, labels) if _is_triable(case) else None
        if not reason and not failing:
            continue
        remedy = "correct the expectations"
        yield GoldenFinding(
            check="Unpassable",
            severity="Error" if reason else "Warning",
            message=f"case {case.id}: {failing or f'no output passes {reason}'}",
            cases=[case.id],
            remedy=f"{remedy}, which contradict each other"
            if reason
            else f"{remedy} if the answer can have no other form that passes",
        )


def _failing_answer(case: GoldenCase, labels: Mapping[str, int]) -> str | None:
    """Return why an expected answer fails the case in all its usual forms, or None if none fails."""
    for forms in _usual_answers(case.expect):
        scores = [_score(case, form, labels) for form in forms]
        if all(score.outcome == FAIL for score in scores):
            return f"the expected answer {quoted(forms[0])} {scores[0].explanation}"
    return None


def _usual_answers(expectations: Sequence[Expectation]) -> Iterator[list[str]]:
    """Return the usual forms of each answer that an expectation requires as the whole output. Outputs of
    which only a part is compared have no usual form."""
    for each in expectations:
        if each.not_:
            continue
        if isinstance(each, TextExpectation) and each.type == "equals":
            if not (each.until or each.extract or each.ignore):
                others = [*_in_other_case(each.value), normalized(each.value, each.normalize)]
                yield [each.value, *(others if each.normalize else [])]
        elif isinstance(each, LabelExpectation):
            yield [each.value, *_in_other_case(each.value)]
        elif isinstance(each, JsonExpectation):
            yield [
                json.dumps(each.value, ensure_ascii=False),
                json.dumps(each.value, ensure_ascii=False, separators=(",", ":")),
                json.dumps(each.value, ensure_ascii=False, indent=2),
            ]


def _in_other_case(text: str) -> list[str]:
    return [text.lower(), text.upper(), text.capitalize()]


def _unfailable(cases: Sequence[GoldenCase], labels: Mapping[str, int]) -> Iterator[GoldenFinding]:
    """Find cases that pass every output that is tried: very different ones, and those that the case
    excludes."""
    for case in cases:
        outputs = [*TRIED, *(text for leaf in leaves(case.expect) for text in _texts(leaf))]
        if all(_score(case, output, labels).outcome == PASS for output in outputs):
            yield GoldenFinding(
                check="Unfailable",
                severity="Warning",
                message=f"case {case.id}: every output that was tried passes, even {quoted(TRIED[0])}",
                cases=[case.id],
                remedy="expect something that a wrong answer does not have",
            )


def _texts(leaf: Leaf) -> list[str]:
    """Return texts that the expectation is about."""
    if isinstance(leaf, TextExpectation | LabelExpectation | NumberExpectation | OverlapExpectation):
        return [leaf.value]
    return [json.dumps(leaf.value, ensure_ascii=False)] if isinstance(leaf, JsonExpectation) else []


def _score(case: GoldenCase, output: str, labels: Mapping[str, int]) -> Score:
    expected = expected_outputs(
        case.expect, lambda leaf: GRADERS[leaf.type], lambda leaf: plain_reference(leaf, labels)
    )
    if is_forbidden_empty(case, output):
        return Score(FAIL, EMPTY)
    scores = {
        place: next(iter(each.scorer.score([Sample("", output, each.reference, case)])))
        for place, each in placed(expected)
    }
    return combined(expected, scores)


def _duplicates(cases: Sequence[GoldenCase]) -> Iterator[GoldenFinding]:
    """Find cases with equal prompts, apart from white space."""
    by_prompt: dict[str, list[GoldenCase]] = {}
    for case in cases:
        by_prompt.setdefault(prompt_key(case), []).append(case)
    for group in by_prompt.values():
        if len(group) > 1:
            ids = [case.id for case in group]
            yield GoldenFinding(
                check="Duplicates",
                severity="Warning",
                message=f"{len(ids)} cases have the same prompt: {summarize(ids, _NAMED)}",
                cases=ids,
                remedy="merge them into one case: the model gives each the same answer, so it counts twice",
            )


def _tags(cases: Sequence[GoldenCase]) -> Iterator[GoldenFinding]:
    """Find kinds of cases that the set lacks, by the tags of its cases."""
    words = {word for case in cases for tag in case.tags for word in re.split(r"[-._]", tag.lower())}
    for kind, parts, example in (
        ("edge cases", EDGE, "edge"),
        ("adversarial cases", ADVERSARIAL, "adversarial"),
    ):
        if not words & set(parts):
            yield GoldenFinding(
                check="Tags",
                severity="Warning",
                message=f"no case is tagged as one of the {kind}",
                remedy=f"add {kind}, or the tag {example} to those that the set has",
            )
