"""Scorers for the words that an output has in common with a reference text: ROUGE-L and the F1 of words."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from rapidfuzz.distance import LCSseq

from tunegate_api.verdict.counts import MAX_COUNT, Counts
from tunegate_api.verdict.outcomes import FAIL, PASS
from tunegate_trainer.graders.grader import Sample, Score

_TOKEN = re.compile(r"[^\W_]+")
MAX_TOKENS = MAX_COUNT // 2
"""Maximum number of tokens of a text. Further tokens are ignored, because larger counts cannot be
recorded."""


@dataclass(frozen=True)
class ExpectedOverlap:
    """The reference text, and the F-measure that passes."""

    text: str
    min: Fraction = Fraction(1)


def rouge_l(sample: Sample) -> Score:
    """Score the F-measure of the longest common subsequence of output and reference.

    With the lengths ``m`` and ``n`` in tokens, recall is ``LCS / m`` and precision is ``LCS / n``, so the
    F-measure with equal weights is ``2 LCS / (m + n)`` (Lin, ROUGE: A Package for Automatic Evaluation of
    Summaries, 2004, section 3). Without any token in the output or in the reference, the score is 0.
    """
    expected: ExpectedOverlap = sample.reference
    output, reference = rouge_tokens(sample.output), rouge_tokens(expected.text)
    counts = _f_measure(LCSseq.similarity(output, reference), output, reference)
    return replace(_compared("ROUGE-L", counts, expected.min), counts=counts)


def word_f1(sample: Sample) -> Score:
    """Score the F-measure of the tokens that output and reference have in common, in any order.

    A token that occurs twice counts twice. With ``c`` common tokens, the F-measure is ``2 c / (m + n)``
    (Rajpurkar et al., SQuAD, 2016, section 6.1).
    """
    expected: ExpectedOverlap = sample.reference
    output, reference = rouge_tokens(sample.output), rouge_tokens(expected.text)
    common = (Counter(output) & Counter(reference)).total()
    return _compared("word F1", _f_measure(common, output, reference), expected.min)


def _f_measure(common: int, output: Sequence[str], reference: Sequence[str]) -> Counts:
    return Counts(2 * common, max(1, len(output) + len(reference)))


def _compared(name: str, counts: Counts, least: Fraction) -> Score:
    if Fraction(counts.numerator, counts.denominator) >= least:
        return Score(PASS)
    needed = "" if least == 1 else f", expected at least {float(least):g}"
    return Score(FAIL, f"has {name} {counts.numerator / counts.denominator:.2f}{needed}")


def rouge_tokens(text: str) -> list[str]:
    """Return the tokens of a text: sequences of letters and digits, in lower case.

    For ASCII texts, these are the tokens of the Python package rouge_score without stemming. That package
    ignores all other letters.
    """
    return _TOKEN.findall(text.lower())[:MAX_TOKENS]
