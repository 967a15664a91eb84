"""Split pairs of a chosen and a rejected answer into train, dev and test."""

from collections.abc import Mapping

from tunegate_api.contract.plan import PreferencePlan
from tunegate_api.contract.workspace import PAIRS_PREFIX
from tunegate_api.v1alpha2.shares import share
from tunegate_trainer.data.folder import DataFolder
from tunegate_trainer.data.held_out import check_disjoint, prompts_of
from tunegate_trainer.data.split import SIDES, Split, split_rows
from tunegate_trainer.data.usable import SourceRows, TrainedRows, UsableRow
from tunegate_trainer.process.context import Context
from tunegate_trainer.tokens.rows import Pair, Row


def split_preference(
    context: Context,
    folder: DataFolder,
    pairs: list[UsableRow[Pair]],
    *,
    rows: Split[UsableRow[Row]],
    placed: Mapping[str, str],
) -> Split[UsableRow[Pair]]:
    """Split the pairs. A pair whose group is in ``rows`` or ``placed`` gets the side of that group.

    ``rows`` are the split rows of this job, and take precedence. ``placed`` has the side of each group that
    an earlier job used.
    """
    of_rows = {row.group: side for side in SIDES for row in rows.side(side)}
    split = split_rows(pairs, share(context.request.spec.data.held_out.fraction), {**placed, **of_rows})
    if not pairs:
        return split
    check_disjoint(
        {
            "train": prompts_of(rows.train) + prompts_of(split.train),
            "dev": prompts_of(rows.dev) + prompts_of(split.dev),
            "test": prompts_of(rows.test) + prompts_of(split.test),
        }
    )
    folder.note_pairs({"split": {side: len(split.side(side)) for side in SIDES}})
    return split


def preference_plan(
    folder: DataFolder, source: SourceRows[Pair] | None, split: Split[UsableRow[Pair]]
) -> PreferencePlan | None:
    """Write the train, dev and test pairs to files, and return what the plan records about them.

    Returns None if the job has no preference data or none of its pairs can be trained on.
    """
    if source is None or not source.tokenized.kept:
        return None
    files = folder.write_split(split, [TrainedRows(split.train, source)], PAIRS_PREFIX)
    return PreferencePlan(source_sha256=source.sha256, **files)
