"""Preference data: pairs of a better and a worse answer, of which no held-out prompt is trained on."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from tunegate_api.contract import PreferencePlan
from tunegate_api.meta import exact
from tunegate_trainer.context import Context
from tunegate_trainer.data.folder import DataFolder
from tunegate_trainer.data.parse import parse_pairs, prompt_text
from tunegate_trainer.data.sources import read_source
from tunegate_trainer.data.split import SIDES, Split, find_overlaps, normalize, split_pairs
from tunegate_trainer.data.usable import Measured, usable_rows
from tunegate_trainer.errors import BadDataError
from tunegate_trainer.rows import PAIRS_PREFIX, Pair, Row


@dataclass(frozen=True)
class Preference:
    """What preference stages learn from and are measured by."""

    plan: PreferencePlan
    lengths: list[int]
    """Tokens of each pair to train on."""
    dropped: int


def read_preference(
    context: Context,
    tokenizer: PreTrainedTokenizerBase,
    folder: DataFolder,
    *,
    rows: Split[Measured[Row]],
    longest: int,
    seed: int,
) -> Preference | None:
    """Read, check and split ``data.preference``; None where there is none.

    A pair whose prompt is one of ``rows`` is held out where that is. Raises :class:`BadDataError` for pairs
    that cannot be used, and where too few are left.
    """
    data = context.request.spec.data
    if data.preference is None:
        return None
    text, digest = read_source(context.root, data.preference, "data.preference")
    parsed = parse_pairs(text, data.preference.columns)
    pairs, dropped = usable_rows("data.preference", parsed, tokenizer, longest, folder.note_pairs)
    placed = {prompt: side for side in SIDES for prompt in _prompts(rows, side)}
    split = split_pairs(pairs, placed, exact(data.held_out.fraction), seed)
    _prove(rows, split)
    folder.note_pairs({"split": {side: len(split.side(side)) for side in SIDES}})
    if not split.train:
        raise BadDataError(
            f"data.preference: none of {len(pairs)} pairs is left to train on: each has a held-out prompt",
            "give pairs with other prompts",
        )
    metrics = {metric.name for metric in context.request.spec.task_metrics}
    if "preference_accuracy" in metrics and not (split.dev and split.test):
        raise BadDataError(
            f"data.preference: {len(split.dev)} of {len(pairs)} pairs are held out as dev and "
            f"{len(split.test)} as test, and preference_accuracy is measured on both",
            "give more pairs, or a larger heldOut.fraction",
        )
    plan = PreferencePlan(source_sha256=digest, **folder.write_split(split, PAIRS_PREFIX))
    return Preference(plan, [pair.tokens for pair in split.train], dropped)


def _prompts(split: Split[Measured[Row]] | Split[Measured[Pair]], side: str) -> list[str]:
    return [normalize(prompt_text(measured.labelled.row.prompt)) for measured in split.side(side)]


def _prove(rows: Split[Measured[Row]], pairs: Split[Measured[Pair]]) -> None:
    """Show that no prompt of a pair is trained on and held out. An overlap is a bug of ours."""
    held = {side: _prompts(rows, side) + _prompts(pairs, side) for side in ("dev", "test")}
    overlaps = find_overlaps({"train": _prompts(pairs, "train"), **held})
    overlaps += find_overlaps({"train": _prompts(rows, "train"), **held})
    if overlaps:
        raise AssertionError(f"the pairs are not held out: {overlaps[:3]}")
