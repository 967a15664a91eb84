"""Preference data: pairs of a better and a worse answer, of which no held-out prompt is trained on."""

from collections.abc import Mapping
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from tunegate_api.meta import Sha256, exact
from tunegate_api.plan import PreferencePlan
from tunegate_trainer.data.folder import DataFolder
from tunegate_trainer.data.held_out import prompts_of, prove_apart
from tunegate_trainer.data.parse import parse_pairs
from tunegate_trainer.data.split import SIDES, Split, split_rows
from tunegate_trainer.data.usable import Limit, Measured, usable_rows
from tunegate_trainer.fetch.sources import read_source
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import BadDataError
from tunegate_trainer.tokens.rows import PAIRS_PREFIX, PREFERENCE, Pair, Row


@dataclass(frozen=True)
class Preference:
    """Pairs that preference stages learn from and are measured by; none where there is no such stage."""

    pairs: list[Measured[Pair]]
    dropped: int
    source_sha256: Sha256 = ""


def read_preference(
    context: Context, tokenizer: PreTrainedTokenizerBase, folder: DataFolder, longest: Limit
) -> Preference:
    """Read and check ``data.preference``. Raises :class:`BadDataError` for pairs that cannot be used."""
    data = context.request.spec.data
    if data.preference is None:
        return Preference([], 0)
    text, digest = read_source(context, data.preference, "data.preference")
    parsed = parse_pairs(text, data.preference.columns, data.held_out.group_by)
    pairs, dropped = usable_rows(
        "data.preference",
        parsed,
        tokenizer,
        longest,
        folder.note_pairs,
        max_too_long=exact(data.max_too_long),
    )
    return Preference(pairs, dropped, digest)


def split_preference(
    context: Context,
    folder: DataFolder,
    pairs: list[Measured[Pair]],
    *,
    rows: Split[Measured[Row]],
    placed: Mapping[str, str],
) -> Split[Measured[Pair]]:
    """The pairs in three parts. One whose group is among ``rows`` or ``placed`` is where that is.

    Raises :class:`BadDataError` where too few are left to train on or to measure by.
    """
    of_rows = {row.group: side for side in SIDES for row in rows.side(side)}
    split = split_rows(pairs, exact(context.request.spec.data.held_out.fraction), {**placed, **of_rows})
    if not pairs:
        return split
    prove_apart(
        {
            "train": prompts_of(rows.train) + prompts_of(split.train),
            "dev": prompts_of(rows.dev) + prompts_of(split.dev),
            "test": prompts_of(rows.test) + prompts_of(split.test),
        }
    )
    folder.note_pairs({"split": {side: len(split.side(side)) for side in SIDES}})
    if not split.train:
        raise BadDataError(
            f"data.preference: none of {len(pairs)} pairs is left to train on: each is held out",
            "give pairs with other prompts",
        )
    metrics = {metric.name for metric in context.request.spec.task_metrics}
    if PREFERENCE in metrics and not (split.dev and split.test):
        raise BadDataError(
            f"data.preference: {len(split.dev)} of {len(pairs)} pairs are held out as dev and "
            f"{len(split.test)} as test, and {PREFERENCE} is measured on both",
            "give more pairs, or a larger heldOut.fraction",
        )
    return split


def preference_plan(
    folder: DataFolder, preference: Preference, split: Split[Measured[Pair]]
) -> PreferencePlan | None:
    """Write the pairs, and say what the plan pins of them; None where there are none."""
    if not preference.pairs:
        return None
    return PreferencePlan(source_sha256=preference.source_sha256, **folder.write_split(split, PAIRS_PREFIX))
