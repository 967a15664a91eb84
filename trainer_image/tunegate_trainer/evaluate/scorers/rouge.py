"""The task metric rouge_l: how many tokens of the labelled answer the output has in the same order."""

import re

from rapidfuzz.distance import LCSseq

from tunegate_api.judging.counts import MAX_COUNT, Counts
from tunegate_api.judging.verdict import FAIL, PASS
from tunegate_trainer.evaluate.scorers.scorer import Sample, Score

_TOKEN = re.compile(r"[^\W_]+")
MAX_TOKENS = MAX_COUNT // 2
"""Maximum number of tokens of a text. Further tokens are ignored, because larger counts cannot be
recorded."""


def rouge_l(sample: Sample) -> Score:
    """Score the F-measure of the longest common subsequence of output and labelled answer.

    With the lengths ``m`` and ``n`` in tokens, recall is ``LCS / m`` and precision is ``LCS / n``, so the
    F-measure with equal weights is ``2 LCS / (m + n)`` (Lin, ROUGE: A Package for Automatic Evaluation of
    Summaries, 2004, section 3). The output passes if all tokens are equal. Without any token in the output or
    in the answer, the score is 0.
    """
    output, answer = rouge_tokens(sample.output), rouge_tokens(sample.reference)
    length: int = LCSseq.similarity(output, answer)
    counts = Counts(2 * length, max(1, len(output) + len(answer)))
    if counts.numerator == counts.denominator:
        return Score(PASS, counts=counts)
    return Score(FAIL, f"has ROUGE-L {counts.numerator / counts.denominator:.2f}", counts)


def rouge_tokens(text: str) -> list[str]:
    """Return the tokens of a text: sequences of letters and digits, in lower case.

    For ASCII texts, these are the tokens of the Python package rouge_score without stemming. That package
    ignores all other letters.
    """
    return _TOKEN.findall(text.lower())[:MAX_TOKENS]
