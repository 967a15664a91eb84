"""Scorers for classification: the output is the expected label, which is one of the labels of the set."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tunegate_api.cases.normalize import ComparedForm, normalized
from tunegate_api.meta import shorten
from tunegate_api.verdict.counts import Classification
from tunegate_api.verdict.outcomes import FAIL, MAX_LABELS, PASS
from tunegate_trainer.graders.grader import Sample, Score, quoted

"""The name of the task metric."""
SHOWN_LABEL = 64
"""Maximum length of a label in reports, in characters."""


@dataclass(frozen=True)
class ExpectedLabel:
    """The label of a row, and the labels of all rows of the set."""

    label: str
    labels: Mapping[str, int]
    """The index of each label."""


LABEL_FORMS: tuple[ComparedForm, ...] = ("Unicode", "Case")
"""Differences between labels that are ignored."""


def f1_label(answer: str) -> str:
    """Return the label that an answer is: the whole answer after Unicode normalization (NFKC) and case
    folding, without white space at its ends."""
    return normalized(answer, LABEL_FORMS)


def label_indices(answers: Iterable[str]) -> dict[str, int]:
    """Return the index of each label of these labelled answers. The labels are sorted."""
    return {label: index for index, label in enumerate(sorted(set(map(f1_label, answers))))}


def shown_labels(labels: Sequence[str]) -> list[str] | None:
    """Return the labels as they are reported, each with at most ``SHOWN_LABEL`` characters. Returns None if
    there are too many to report."""
    return None if len(labels) > MAX_LABELS else [shorten(label, SHOWN_LABEL - 1) for label in labels]


def label(sample: Sample) -> str | None:
    """Pass if the output is the expected label."""
    expected: ExpectedLabel = sample.reference
    predicted = f1_label(sample.output)
    return None if predicted == expected.label else _wrong(predicted, expected)


def f1(sample: Sample) -> Score:
    """Pass if the output is the expected label. An output that is not a label of the set counts as a false
    negative of the expected label, and as a false positive of no label."""
    reference: ExpectedLabel = sample.reference
    predicted = f1_label(sample.output)
    entry = Classification(reference.labels[reference.label], reference.labels.get(predicted))
    if predicted == reference.label:
        return Score(PASS, counts=entry)
    return Score(FAIL, _wrong(predicted, reference), entry)


def _wrong(predicted: str, expected: ExpectedLabel) -> str:
    found = quoted(predicted) if predicted in expected.labels else "not one of the labels"
    return f"is {found}, expected {quoted(expected.label)}"
