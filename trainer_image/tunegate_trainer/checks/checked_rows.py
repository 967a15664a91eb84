"""Read the data of a job, run every data check, and split the rows into train, dev and test."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tunegate_api.meta import exact
from tunegate_api.plan import ProductionPlan
from tunegate_trainer.checks import Checks, distribution_shift, split_leakage
from tunegate_trainer.checks.rows import AllUsableRows, SplitRows
from tunegate_trainer.checks.runner import CheckRunner, Note
from tunegate_trainer.data.documents import Documents, find_template
from tunegate_trainer.data.folder import DataFolder
from tunegate_trainer.data.held_out import join_clusters, join_prompts, without_held_out_turns
from tunegate_trainer.data.mix import LabeledRows, add_mixed, read_rows, without_mixed
from tunegate_trainer.data.near_duplicates import find_near_duplicates
from tunegate_trainer.data.overlaps import join_overlaps, join_pairs
from tunegate_trainer.data.preference import Preference, read_preference, split_preference
from tunegate_trainer.data.production import Production, read_production
from tunegate_trainer.data.shingles import Indices
from tunegate_trainer.data.sides import Sides, check_sides, held_out_prompts, read_sides, write_sides
from tunegate_trainer.data.split import split_rows
from tunegate_trainer.data.strata import label_strata
from tunegate_trainer.data.usable import Limit, Measured, SourceRows
from tunegate_trainer.process.context import Context
from tunegate_trainer.tokens.rows import RowT

logger = logging.getLogger(__name__)

Limits = Mapping[str, Limit]
"""The maximum length of the examples of each training method: ``SFT`` and ``DPO``."""


@dataclass(frozen=True)
class CheckedRows:
    """The data of a job after reading, checking and splitting."""

    rows: SplitRows
    labeled: LabeledRows
    preference: Preference | None
    production: ProductionPlan | None
    dropped: int
    """The number of rows and pairs that were left out: duplicates, too long ones, mixed rows in the groups of
    held-out rows, and conflicts with an earlier job."""
    warnings: list[str]


def read_data(
    context: Context, folder: DataFolder, limits: Limits, checks: Checks, runner: CheckRunner
) -> CheckedRows:
    """Read and split the rows and pairs, and run every check as soon as its input is available.

    Raises the errors that checks found: those about schemas and sources before the rows are split, and all
    others at the end.
    """
    request, tokenizer = context.request, runner.context.tokenizer
    runner.run(checks.schemas, runner.context.schemas)
    runner.refuse_errors()

    labeled = read_rows(context, folder, tokenizer, limits["SFT"])
    rows = _usable(checks, runner, labeled.source, folder.note)
    preference = read_preference(context, folder, tokenizer, limits["DPO"])
    pairs = _usable(checks, runner, preference.source, folder.note_pairs) if preference else []
    groups = len({row.group for row in rows} | {pair.group for pair in pairs})
    rows, pairs = join_prompts(rows, pairs)
    production = _production(context, limits["SFT"], checks, runner)
    documents = Documents(rows, pairs)
    near_duplicates = find_near_duplicates(documents, find_template(documents))
    usable = AllUsableRows(rows, pairs, production, groups_before=groups, near_duplicates=near_duplicates)
    runner.run(checks.usable, usable)
    runner.run(checks.task, usable.unmixed)
    earlier = read_sides(context.root, request.start_from)
    clusters = join_overlaps(documents, len(rows), near_duplicates.template, near_duplicates.clusters)
    split = _split(context, folder, usable, clusters, earlier)
    split = replace(split, leaks=split_leakage.find_leaks(split))
    if split.leaked and not split.left_apart:  # join_overlaps has missed a few overlaps
        clusters = join_pairs(documents, clusters, split.leaked)
        split = _split(context, folder, usable, clusters, earlier)
    if preference:
        runner.run(checks.pairs, split.pairs, folder.note_pairs)
    write_sides(folder.path, earlier, split.rows, split.pairs)
    runner.run(checks.split, split)
    runner.run(checks.task_split, split.unmixed)
    runner.refuse_errors()

    dropped = len(labeled.source.dropped) + (len(preference.source.dropped) if preference else 0)
    dropped += split.conflicts + split.mixed_held_out
    of_production = production.plan(runner.measured.get(distribution_shift.NAME)) if production else None
    return CheckedRows(split, labeled, preference, of_production, dropped, runner.warnings)


def _usable(
    checks: Checks, runner: CheckRunner, source: SourceRows[RowT], note: Note
) -> list[Measured[RowT]]:
    """Run the checks of a source, and return the rows that can be trained on. ``note`` receives what
    data/report.json has about the source."""
    logger.info("%s: %s, %s", source.field, source.format, source.parsed.shape or "unknown shape")
    try:
        for check in checks.source:
            runner.run([check], source, note)
            runner.refuse_errors()
    finally:
        note(source.report)
    return source.tokenized.kept


def _split(
    context: Context, folder: DataFolder, usable: AllUsableRows, clusters: Indices, earlier: Sides
) -> SplitRows:
    """Split the usable rows and pairs. Those in the same of the ``clusters`` stay in one split."""
    fraction = exact(context.request.spec.data.held_out.fraction)
    joined = join_clusters(usable.rows, usable.pairs, clusters.tolist(), fraction)
    groups = {row.group for row in joined.rows} | {pair.group for pair in joined.pairs}
    folder.note({"groups": len(groups)})
    placed = earlier.of_groups([*joined.rows, *joined.pairs])
    kept, lines_of_rows = earlier.without_conflicts(joined.rows, placed)
    kept_pairs, lines_of_pairs = earlier.without_conflicts(joined.pairs, placed)
    conflicts = len(lines_of_rows) + len(lines_of_pairs)
    if conflicts:
        folder.note({"conflicts": {"data.train": lines_of_rows, "data.preference": lines_of_pairs}})
    unmixed = without_mixed(kept)
    split = split_rows(unmixed, fraction, placed, label_strata(unmixed, usable.unmixed.labels))
    split, mixed_held_out = add_mixed(split, kept, placed)
    of_pairs = split_preference(context, folder, kept_pairs, rows=split, placed=placed)
    held_out = earlier.held_out | held_out_prompts(split, of_pairs)
    learned_rows, masked = without_held_out_turns(split.train, held_out)
    split = replace(split, train=learned_rows)
    folder.note({"split": check_sides(split, of_pairs, earlier, len(kept) - mixed_held_out)})
    return SplitRows(
        split,
        of_pairs,
        masked,
        earlier,
        conflicts,
        usable.near_duplicates.template,
        joined.left_apart,
        mixed_held_out=mixed_held_out,
    )


def _production(context: Context, longest: Limit, checks: Checks, runner: CheckRunner) -> Production | None:
    """Read the production inputs and run their checks. Return None if the job has no such inputs."""
    production = read_production(context, runner.context.tokenizer, longest)
    if production:
        runner.note(production.report)
        runner.run(checks.production, production)
        runner.refuse_errors()
    return production
