"""Read the data of a job, run every data check, and split the rows into train, dev and test."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tunegate_api.contract.plan import ProductionPlan
from tunegate_api.meta import exact
from tunegate_api.v1alpha2.shares import share
from tunegate_trainer.checks import Checks, distribution_shift, split_leakage
from tunegate_trainer.checks.rows import SplitRows, UsableRows
from tunegate_trainer.checks.runner import CheckRunner, Note
from tunegate_trainer.checks.share_finding import REPORTED
from tunegate_trainer.data.documents import Documents, find_template
from tunegate_trainer.data.folder import DataFolder
from tunegate_trainer.data.held_out import (
    check_disjoint,
    join_clusters,
    join_prompts,
    learned_prompts,
    without_held_out_turns,
)
from tunegate_trainer.data.labels import label_strata
from tunegate_trainer.data.mix import TrainedMix, repeat_by_weight
from tunegate_trainer.data.near_duplicates import find_near_duplicates
from tunegate_trainer.data.overlaps import join_overlaps, join_pairs
from tunegate_trainer.data.parse import RowProblem, parse_pairs, parse_rows
from tunegate_trainer.data.preference import split_preference
from tunegate_trainer.data.production import Production, read_production
from tunegate_trainer.data.read import read_source
from tunegate_trainer.data.shingles import Indices
from tunegate_trainer.data.sides import Sides, check_sides, held_out_prompts, read_sides, write_sides
from tunegate_trainer.data.split import HELD_OUT, split_rows
from tunegate_trainer.data.usable import Limit, SourceRows, UsableRow
from tunegate_trainer.process.context import Context
from tunegate_trainer.tokens.rows import Pair, Row, RowT

logger = logging.getLogger(__name__)

Limits = Mapping[str, Limit]
"""The maximum length of the examples of each training method: ``SFT`` and ``DPO``."""


@dataclass(frozen=True)
class CheckedRows:
    """The data of a job after reading, checking and splitting."""

    rows: SplitRows
    source: SourceRows[Row]
    mix: list[TrainedMix]
    preference: SourceRows[Pair] | None
    """The source of use Preference. None if the job has none."""
    production: ProductionPlan | None
    dropped: int
    """The number of rows and pairs that were left out: duplicates, too long ones, mixed rows that repeat
    held-out rows, and conflicts with an earlier job."""
    warnings: list[str]

    @property
    def sources(self) -> list[SourceRows[Any]]:
        """The sources of rows and pairs."""
        pairs = [self.preference] if self.preference else []
        return [self.source, *(one.source for one in self.mix), *pairs]


def read_data(
    context: Context, folder: DataFolder, limits: Limits, checks: Checks, runner: CheckRunner
) -> CheckedRows:
    """Read and split the rows and pairs, and run every check as soon as its input is available.

    Raises the errors that checks found: those about schemas and sources before the rows are split, and all
    others at the end.
    """
    request, tokenizer = context.request, runner.context.tokenizer
    spec = request.spec
    runner.run(checks.schemas, runner.context.schemas)
    runner.refuse_errors()

    read = partial(read_source, context, folder, tokenizer)
    source = read(spec.data.train, longest=limits["SFT"], parse=parse_rows)
    rows = _usable(checks, runner, source, folder.note)
    preference, pairs = None, []
    if given := spec.data.preference:
        preference = read(given, longest=limits["DPO"], parse=partial(parse_pairs, source=given.name))
        pairs = _usable(checks, runner, preference, folder.note_pairs)
    mix = []
    for given in spec.data.mix:
        mixed = read(given, longest=limits["SFT"], parse=partial(parse_rows, mixed=given.name))
        mix.append((mixed, _usable(checks, runner, mixed, partial(folder.note_mixed, given.name))))
    groups = len({row.group for row in rows} | {pair.group for pair in pairs})
    rows, pairs = join_prompts(rows, pairs)
    production = _production(context, limits["SFT"], checks, runner)
    documents = Documents(rows, pairs)
    near_duplicates = find_near_duplicates(documents, find_template(documents))
    usable = UsableRows(rows, pairs, groups, near_duplicates, production)
    runner.run(checks.usable, usable)
    earlier = read_sides(context.root, request.start_from)
    clusters = join_overlaps(documents, len(rows), near_duplicates.template, near_duplicates.clusters)
    split = _split(context, folder, usable, clusters, earlier)
    if runner.context.setting(split_leakage.NAME).policy != "Off":
        split = replace(split, leaks=split_leakage.find_leaks(split))
    if split.leaked and not split.left_apart:  # join_overlaps has missed a few overlaps
        clusters = join_pairs(documents, clusters, split.leaked)
        split = _split(context, folder, usable, clusters, earlier)
    if preference:
        runner.run(checks.pairs, split.pairs, folder.note_pairs)
    trained_mix = [
        _train_mixed(one, of_mix, split, checks=checks, runner=runner, folder=folder) for one, of_mix in mix
    ]
    of_mix = [row for one in trained_mix for row in one.rows]
    split = replace(split, mixed=len(of_mix))
    trained = replace(split.rows, train=[*split.rows.train, *of_mix])
    write_sides(folder.path, earlier, trained, split.pairs)
    runner.run(checks.split, split)
    runner.refuse_errors()

    dropped = len(source.dropped) + (len(preference.dropped) if preference else 0) + split.conflicts
    dropped += sum(len(one.source.dropped) + len(one.left_out) for one in trained_mix)
    of_production = production.plan(runner.measured.get(distribution_shift.NAME)) if production else None
    return CheckedRows(split, source, trained_mix, preference, of_production, dropped, runner.warnings)


def _usable(
    checks: Checks, runner: CheckRunner, source: SourceRows[RowT], note: Note
) -> list[UsableRow[RowT]]:
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
    context: Context, folder: DataFolder, usable: UsableRows, clusters: Indices, earlier: Sides
) -> SplitRows:
    """Split the usable rows and pairs. Those in the same of the ``clusters`` stay in one split."""
    fraction = share(context.request.spec.data.held_out.fraction)
    joined = join_clusters(usable.rows, usable.pairs, clusters.tolist(), fraction)
    groups = {row.group for row in joined.rows} | {pair.group for pair in joined.pairs}
    folder.note({"groups": len(groups)})
    placed = earlier.of_groups([*joined.rows, *joined.pairs])
    kept, lines_of_rows = earlier.without_conflicts(joined.rows, placed)
    kept_pairs, lines_of_pairs = earlier.without_conflicts(joined.pairs, placed)
    conflicts = len(lines_of_rows) + len(lines_of_pairs)
    if conflicts:
        data = context.request.spec.data
        lines = {data.train.name: lines_of_rows}
        lines |= {data.preference.name: lines_of_pairs} if data.preference else {}
        folder.note({"conflicts": lines})
    split = split_rows(kept, fraction, placed, label_strata(kept, usable.labels))
    of_pairs = split_preference(context, folder, kept_pairs, rows=split, placed=placed)
    held_out = earlier.held_out | held_out_prompts(split, of_pairs)
    learned_rows, masked = without_held_out_turns(split.train, held_out)
    split = replace(split, train=learned_rows)
    folder.note({"split": check_sides(split, of_pairs, earlier, len(kept))})
    template = usable.near_duplicates.template
    return SplitRows(split, of_pairs, masked, earlier, conflicts, template, joined.left_apart)


def _train_mixed(
    mixed: SourceRows[Row],
    usable: Sequence[UsableRow[Row]],
    split: SplitRows,
    *,
    checks: Checks,
    runner: CheckRunner,
    folder: DataFolder,
) -> TrainedMix:
    """Check the rows of a source of use Mix, and leave out those that repeat held-out rows, or that are
    in one of their groups."""
    note = partial(folder.note_mixed, mixed.spec.name)
    documents = Documents(usable, [])
    near_duplicates = find_near_duplicates(documents, find_template(documents))
    groups = len({row.group for row in usable})
    runner.run(checks.mixed, UsableRows(usable, [], groups, near_duplicates), note)
    repeats = repeat_by_weight(usable, exact(mixed.spec.weight or "1"))
    chosen = sorted(set(repeats))
    held_out = split.earlier.held_out | held_out_prompts(split.rows, split.pairs)
    held_out_groups = {row.labelled.group for row in split.held_out.rows}
    held_out_groups |= {pair.labelled.group for pair in split.held_out.pairs}
    free = [
        position
        for position in chosen
        if usable[position].labelled.group not in held_out_groups
        and usable[position].labelled.prompt not in held_out
        and split.earlier.of(usable[position]).isdisjoint(HELD_OUT)
    ]
    rows, masked = without_held_out_turns([usable[position] for position in free], held_out)
    compared = replace(
        split,
        rows=replace(split.rows, train=rows),
        pairs=replace(split.pairs, train=[]),
        masked=masked,
        template=split.template.joined(near_duplicates.template),
    )
    leaking = split_leakage.leaking_rows(compared)
    kept = {position: i for i, position in enumerate(free) if i not in leaking}
    number = {position: i for i, position in enumerate(kept)}
    found = TrainedMix(
        mixed,
        [rows[i] for i in kept.values()],
        [masked[i] for i in kept.values()],
        [number[position] for position in repeats if position in number],
        [
            RowProblem(usable[position].labelled.place, "repeats a held-out row, or is in its group")
            for position in chosen
            if position not in kept
        ],
    )
    check_disjoint({"learned": learned_prompts(found.rows), "held out": list(held_out)})
    note({"left_out": [problem.entry for problem in found.left_out[:REPORTED]], "trained": len(found.rows)})
    runner.run(checks.trained_mix, found, note)
    return found


def _production(context: Context, longest: Limit, checks: Checks, runner: CheckRunner) -> Production | None:
    """Read the production inputs and run their checks. Return None if the job has no such inputs."""
    production = read_production(context, runner.context.tokenizer, longest)
    if production:
        runner.note(production.report)
        runner.run(checks.production, production)
        runner.refuse_errors()
    return production
