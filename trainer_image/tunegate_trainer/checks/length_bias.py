"""Check whether chosen answers are longer than rejected ones in almost all pairs, or shorter.

A model can then learn the length instead of the quality: see Park et al. 2024, "Disentangling Length from
Quality in Direct Preference Optimization" (https://arxiv.org/abs/2403.19159).
"""

from array import array
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from tunegate_trainer.checks.finding import SHOWN_EXAMPLES, CheckContext, Finding
from tunegate_trainer.checks.rows import UsableRows

NAME = "length_bias"
MIN_SHARE = Fraction(4, 5)
"""Minimum share of the compared pairs in which the same answer is longer."""
MIN_RATIO = 1.5
"""Minimum median of the ratios of the lengths."""
MIN_PAIRS = 50
"""Minimum number of compared pairs. With 40 of 50 pairs, the two-sided sign test gives p < 0.0001."""
MIN_CHARACTERS = 40
"""If neither answer has this many characters, a pair is not compared. The length of labels and numbers cannot
be learned separately from the answer itself."""


def run(rows: UsableRows, _context: CheckContext) -> Iterator[Finding]:
    """Report that chosen is longer than rejected, or shorter, in at least 80 % of the pairs, with a median
    ratio of at least 1.5. Lengths are characters without white space around the answer."""
    ratios, indices = _ratios(rows)
    if len(ratios) < MIN_PAIRS:
        return
    for side, opposite, values in (("longer", "shorter", ratios), ("shorter", "longer", 1 / ratios)):
        count, compared, median = int((values > 1).sum()), len(values), float(np.median(values))
        share = Fraction(count, compared)
        if share < MIN_SHARE or median < MIN_RATIO:
            continue
        mean = float(values.mean())
        size = {"compared": compared, "median_ratio": round(median, 3), "mean_ratio": round(mean, 3)}
        yield Finding(
            message=f"chosen is {side} than rejected in {count} of {compared} pairs "
            f"({float(share):.1%}), by a factor of {median:.1f} in the median and {mean:.1f} in the "
            f"mean; DPO may teach the model to write {side} answers instead of better ones",
            count=count,
            share=share,
            examples=[_example(rows, i) for i in indices[values > 1][:SHOWN_EXAMPLES]],
            remedy=f"add pairs in which chosen is {opposite}, or remove pairs in which it is {side}, "
            f"until it is {side} in less than {float(MIN_SHARE):.0%} of the pairs; if {side} answers are "
            "what you want, set the policy of Pairs in data.checks to Warn or Off",
            report={NAME: {"chosen": side, "pairs": count, **size}},
        )
        return


def _ratios(rows: UsableRows) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the length of chosen divided by that of rejected for each compared pair, and its index."""
    ratios, indices = array("d"), array("q")
    for index, measured in enumerate(rows.pairs):
        pair = measured.labelled.row
        chosen, rejected = len(pair.chosen.strip()), len(pair.rejected.strip())
        if max(chosen, rejected) >= MIN_CHARACTERS:
            ratios.append(chosen / rejected)
            indices.append(index)
    return np.frombuffer(ratios, dtype=np.float64), np.frombuffer(indices, dtype=np.int64)


def _example(rows: UsableRows, index: int) -> str:
    labelled = rows.pairs[index].labelled
    pair = labelled.row
    return (
        f"{labelled.place}: chosen has {len(pair.chosen.strip())} characters, rejected has "
        f"{len(pair.rejected.strip())}"
    )
