"""Preference data: read pairs of a chosen and a rejected answer, and split them into train, dev and test."""

from collections.abc import Mapping
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from tunegate_api.contract.plan import PreferencePlan
from tunegate_api.contract.workspace import PAIRS_PREFIX
from tunegate_api.meta import Sha256, exact
from tunegate_trainer.data.folder import DataFolder
from tunegate_trainer.data.held_out import check_disjoint, prompts_of
from tunegate_trainer.data.parse import parse_pairs
from tunegate_trainer.data.records import read_records
from tunegate_trainer.data.split import SIDES, Split, split_rows
from tunegate_trainer.data.usable import Limit, SourceRows, TrainedRows, UsableRow
from tunegate_trainer.fetch.sources import open_source
from tunegate_trainer.process.context import Context
from tunegate_trainer.tokens.rows import Pair, Row


@dataclass(frozen=True)
class Preference:
    """The pairs of the source of use Preference."""

    source: SourceRows[Pair]
    source_sha256: Sha256


def read_preference(
    context: Context, folder: DataFolder, tokenizer: PreTrainedTokenizerBase, longest: Limit
) -> Preference | None:
    """Read the source of use Preference. Returns None if the job has none."""
    data = context.request.spec.data
    source = data.preference
    if source is None:
        return None
    with open_source(context, source, source.field) as opened:
        records = read_records(opened.path, source.field)
        parsed = parse_pairs(records, source.columns, data.held_out.group_by, folder.scratch, source.name)
    examples = folder.examples_file(source.name)
    rows = SourceRows(source.field, parsed, tokenizer, longest, examples, records.format.NAME)
    return Preference(rows, opened.sha256)


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
    split = split_rows(pairs, exact(context.request.spec.data.held_out.fraction), {**placed, **of_rows})
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
    folder: DataFolder, preference: Preference | None, split: Split[UsableRow[Pair]]
) -> PreferencePlan | None:
    """Write the train, dev and test pairs to files, and return what the plan records about them.

    Returns None if the job has no preference data or none of its pairs can be trained on.
    """
    if preference is None or not preference.source.tokenized.kept:
        return None
    files = folder.write_split(split, [TrainedRows(split.train, preference.source)], PAIRS_PREFIX)
    return PreferencePlan(source_sha256=preference.source_sha256, **files)
