"""Check whether the rejected answers of most pairs are the same few texts, although chosen ones are not.

A model then learns to avoid these texts, and nothing about the prompts.
"""

import math
from array import array
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunegate_trainer.checks.finding import SHOWN_EXAMPLES, CheckContext, Finding, listed
from tunegate_trainer.checks.rows import UsableRows
from tunegate_trainer.data.excerpts import start_of
from tunegate_trainer.data.split import normalize

NAME = "similar_rejections"
MIN_SHARE = Fraction(1, 2)
"""Minimum share of pairs whose rejected answer is frequent."""
MAX_CHOSEN = Fraction(1, 2)
"""Maximum share of pairs whose chosen answer is frequent, relative to that of rejected answers. If more
chosen answers are frequent, the answers are labels, or other short answers from a list."""
MIN_PAIRS = 20
MIN_PROMPTS = 3
MIN_PROMPT_SHARE = Fraction(1, 100)
"""An answer is frequent if this share of the pairs, and at least three, have it for different prompts."""
SHOWN_CHARACTERS = 160
"""Maximum length of an answer in a finding, in characters."""
Keys = NDArray[np.int64]


def run(rows: UsableRows, _context: CheckContext) -> Iterator[Finding]:
    """Report that at least half of the pairs have a frequent rejected answer. Answers are compared after
    :func:`normalize`."""
    columns = array("q"), array("q"), array("q")
    for measured in rows.pairs:
        pair = measured.labelled.row
        for column, text in zip(
            columns, (measured.labelled.prompt, normalize(pair.chosen), normalize(pair.rejected)), strict=True
        ):
            column.append(hash(text))
    prompts, chosen, rejected = (np.frombuffer(column, dtype=np.int64) for column in columns)
    total = len(prompts)
    if total < MIN_PAIRS:
        return
    frequent = _frequent(prompts, rejected)
    share = Fraction(int(frequent.sum()), total)
    of_chosen = Fraction(int(_frequent(prompts, chosen).sum()), total)
    if share < MIN_SHARE or of_chosen > MAX_CHOSEN * share:
        return
    yield _finding(rows, rejected, frequent, share)


def _frequent(prompts: Keys, answers: Keys) -> NDArray[np.bool_]:
    """Return for each pair whether its answer is frequent. An answer to the same prompt is counted once."""
    once = np.unique(np.stack((answers, prompts), axis=1), axis=0)[:, 0]
    values, counts = np.unique(once, return_counts=True)
    least = max(MIN_PROMPTS, math.ceil(MIN_PROMPT_SHARE * len(prompts)))
    return np.isin(answers, values[counts >= least])


def _finding(rows: UsableRows, rejected: Keys, frequent: NDArray[np.bool_], share: Fraction) -> Finding:
    _, first, counts = np.unique(rejected[frequent], return_index=True, return_counts=True)
    places = np.flatnonzero(frequent)[first]
    order = np.lexsort((places, -counts))
    found = [_answer(rows, int(places[i]), int(counts[i])) for i in order]
    examples = [
        f"{one['place']}: {one['answer']!r} is rejected in {one['pairs']} pairs"
        for one in found[:SHOWN_EXAMPLES]
    ]
    count = int(frequent.sum())
    what = "the same rejected answer" if len(found) == 1 else f"one of {len(found)} rejected answers"
    return Finding(
        message=f"{count} of {len(rejected)} pairs ({float(share):.1%}) have {what}: "
        f"{listed(examples, len(found))}",
        count=count,
        share=share,
        examples=examples,
        remedy="replace these rejected answers by ones that a model gave to the prompt, so that each pair "
        "shows what is better about the chosen answer",
        report={NAME: [{"answer": one["answer"], "pairs": one["pairs"]} for one in found]},
    )


def _answer(rows: UsableRows, index: int, pairs: int) -> dict[str, Any]:
    labelled = rows.pairs[index].labelled
    answer = start_of(labelled.row.rejected, SHOWN_CHARACTERS)
    return {"place": labelled.place, "answer": answer, "pairs": pairs}
