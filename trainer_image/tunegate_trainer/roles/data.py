"""The data role: fetch model and data, check every row, split off the held-out rows, and write the plan.

This role needs no GPU. If it refuses a job, no GPU is ever requested.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from transformers import PreTrainedTokenizerBase

from tunegate_api.contract import Outcome
from tunegate_api.meta import Sha256, exact
from tunegate_api.plan import DataPlan, ModelPlan, Plan, ProductionPlan, SamplePlan
from tunegate_api.v1alpha1.finetunejob import FineTuneJobSpec
from tunegate_api.v1alpha1.stages import Stage
from tunegate_api.workspace import REVIEW_SAMPLE, Workspace
from tunegate_trainer.checks import CHECKS, Checks, distribution_shift, settings, split_leakage
from tunegate_trainer.checks.chat_template import check_template
from tunegate_trainer.checks.finding import CheckContext
from tunegate_trainer.checks.rows import SplitRows, UsableRows
from tunegate_trainer.checks.runner import CheckRunner, Note
from tunegate_trainer.data.documents import Documents, find_template
from tunegate_trainer.data.folder import DataFolder
from tunegate_trainer.data.held_out import (
    join_clusters,
    join_prompts,
    without_held_out_turns,
)
from tunegate_trainer.data.near_duplicates import find_near_duplicates
from tunegate_trainer.data.overlaps import join_overlaps, join_pairs
from tunegate_trainer.data.parse import parse_rows
from tunegate_trainer.data.preference import (
    Preference,
    preference_plan,
    read_preference,
    split_preference,
)
from tunegate_trainer.data.production import Production, read_production
from tunegate_trainer.data.records import read_records
from tunegate_trainer.data.review_sample import has_sample, write_sample
from tunegate_trainer.data.shingles import Indices
from tunegate_trainer.data.sides import (
    SIDES_FILE,
    Sides,
    check_sides,
    held_out_prompts,
    read_sides,
    write_sides,
)
from tunegate_trainer.data.split import SIDES, split_rows
from tunegate_trainer.data.strata import label_strata
from tunegate_trainer.data.usable import Limit, Measured, SourceRows
from tunegate_trainer.evaluate.config_map_files import metric_schema
from tunegate_trainer.evaluate.sets import (
    check_metrics,
    check_split,
    golden_cases,
    golden_sets,
    golden_text,
)
from tunegate_trainer.fetch.sources import open_source
from tunegate_trainer.judge.review import judge_server, with_judge
from tunegate_trainer.models.resolve import model_length, require_bitsandbytes, resolve_model
from tunegate_trainer.models.safetensors import stored_dtype
from tunegate_trainer.models.shape import model_shape
from tunegate_trainer.models.target_modules import (
    auto_class_name,
    check_target_modules,
    with_excluded_modules,
)
from tunegate_trainer.planning.plan import check_outcomes, library_versions, plan_stages, stage_max_length
from tunegate_trainer.planning.sizing import generation_batches, with_gate_memory, with_memory
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import TrainerError, UserError
from tunegate_trainer.process.files import is_complete, write_model
from tunegate_trainer.tokens.chat import load_tokenizer
from tunegate_trainer.tokens.rows import PAIRS_PREFIX, PREFERENCE, Row, RowT

logger = logging.getLogger(__name__)


def run(context: Context) -> Outcome:
    """Write the plan and the files whose digests it contains, and send the plan to the operator.

    If an earlier attempt has written them, they are used again.

    Raises :class:`TrainerError` if the job cannot be trained.
    """
    folder = context.workspace / context.paths.data
    plan = _earlier_plan(context.workspace, folder) or _create_plan(context, DataFolder(folder))
    context.send_report(plan=plan)
    data = plan.data
    logger.info("data: %d train, %d dev, %d test rows", data.train.rows, data.dev.rows, data.test.rows)
    if data.preference:
        pairs = data.preference
        logger.info("pairs: %d train, %d dev, %d test", pairs.train.rows, pairs.dev.rows, pairs.test.rows)
    return Outcome.COMPLETED


def _earlier_plan(workspace: Path, folder: Path) -> Plan | None:
    """Return the plan of an earlier attempt.

    Returns None unless the plan, sides.json, the base model, the review sample, and the train, dev and test
    files with the digests in the plan still exist.
    """
    try:
        plan = Plan.model_validate_json((folder / "plan.json").read_bytes())
        for side in SIDES:
            check_split(folder / f"{side}.jsonl", getattr(plan.data, side))
            if plan.data.preference:
                check_split(folder / f"{PAIRS_PREFIX}{side}.jsonl", getattr(plan.data.preference, side))
        (folder / SIDES_FILE).stat()
    except (FileNotFoundError, ValidationError, TrainerError):
        return None
    sample = plan.data.review
    if sample and not has_sample(folder / REVIEW_SAMPLE, sample):
        return None
    return plan if is_complete(workspace / Workspace.base_model(plan.model.digest)) else None


def _create_plan(context: Context, folder: DataFolder) -> Plan:
    judge = judge_server(context)  # first, because a wrong address needs no download
    model = _model(context)
    try:
        plan = prepare(context, folder, model, context.workspace / Workspace.base_model(model.digest))
        plan = with_judge(context, plan, judge)  # after all checks, because the answers of a judge cost money
    finally:
        folder.remove_scratch()
    write_model(folder.path / "plan.json", plan)  # last: the plan implies that all files it pins exist
    return plan


def prepare(
    context: Context, folder: DataFolder, model: ModelPlan, model_folder: Path, checks: Checks = CHECKS
) -> Plan:
    """Check model and data, write the train, dev and test files into ``folder``, and return the plan.

    ``model_folder`` has the model's configuration and tokenizer. Raises :class:`TrainerError` if a check
    fails.
    """
    request = context.request
    spec = request.spec
    longest_chat = model_length(model_folder)
    tokenizer = load_model_tokenizer(model_folder, spec.model.chat_template_args or {})
    _check_stages(request.spec)
    check_metrics(spec.task_metrics)
    check_target_modules(model_folder, spec.stages)
    golden = golden_sets(context, tokenizer, request.gates)
    checking = check_context(context, tokenizer)
    runner = CheckRunner(checking, folder.note)
    try:
        data = read_data(context, folder, longest_chat, checks, runner)
    finally:
        folder.write_report()
        context.send_report(data_checks=runner.results)
    split, of_pairs, warnings = data.rows.rows, data.rows.pairs, list(data.warnings)

    lengths = {
        "SFT": [row.tokens for row in split.train],
        "DPO": [pair.tokens for pair in of_pairs.train],
    }
    stages = plan_stages(request, lengths, longest_chat, model.parameters)
    stages = with_excluded_modules(model_folder, stages)
    shape = model_shape(model_folder)
    batches = generation_batches(request, tokenizer, split.dev, golden)
    if shape:
        stages = with_memory(
            request, stages, shape, tokenizer, rows=split.train, pairs=of_pairs.train, batches=batches
        )
    elif spec.resources.gpu and spec.resources.gpu.memory:
        warnings.append(
            "it was not checked whether the job fits resources.gpu.memory: the sizes of this model's "
            "layers are "
            "unknown"
        )
    names: list[str] = [metric.name for metric in spec.task_metrics]
    dev_cases = {name: len(of_pairs.dev) if name == PREFERENCE else len(split.dev) for name in names}
    check_outcomes(stages, {gate: len(cases) for gate, cases in checking.golden.items()}, dev_cases)
    plan = Plan(
        job_uid=request.uid,
        model=model.model_copy(
            update={
                "shape": shape,
                "auto_class": auto_class_name(model_folder),
                "chat_template_args": spec.model.chat_template_args or {},
            }
        ),
        data=DataPlan(
            source_sha256=data.source_sha256,
            **folder.write_split(split, data.source, [i for i, n in enumerate(data.rows.masked) if n]),
            dropped=data.dropped,
            preference=preference_plan(folder, data.preference, of_pairs),
            review=_review_sample(context, folder, split.train),
            production=data.production,
            warnings=warnings,
        ),
        stages=stages,
        versions=library_versions(),
    )
    return with_gate_memory(request, plan, batches, stored_dtype(model_folder))


def _review_sample(context: Context, folder: DataFolder, rows: Sequence[Measured[Row]]) -> SamplePlan | None:
    """Write the sample of the training rows that is reviewed. Return its entry in the plan, or None if the
    spec requires no review."""
    quality = context.request.spec.data.quality
    if quality is None:
        return None
    return write_sample(folder.path / REVIEW_SAMPLE, rows, exact(quality.sample))


@dataclass(frozen=True)
class CheckedRows:
    """The data of a job after reading, checking and splitting."""

    rows: SplitRows
    source: SourceRows[Row]
    source_sha256: Sha256
    preference: Preference | None
    production: ProductionPlan | None
    dropped: int
    """The number of rows and pairs that were left out: duplicates, too long ones and conflicts with an
    earlier job."""
    warnings: list[str]


def read_data(
    context: Context, folder: DataFolder, longest_chat: int, checks: Checks, runner: CheckRunner
) -> CheckedRows:
    """Read and split the rows and pairs, and run every check as soon as its input is available.

    Raises the errors that checks found: those about schemas and sources before the rows are split, and all
    others at the end.
    """
    request = context.request
    spec, tokenizer = request.spec, runner.context.tokenizer
    runner.run(checks.schemas, runner.context.schemas)
    runner.refuse_errors()

    with open_source(context, spec.data.train, "data.train") as opened:
        records = read_records(opened.path, "data.train")
        parsed = parse_rows(records, spec.data.train.columns, spec.data.held_out.group_by, folder.scratch)
    source = SourceRows(
        "data.train",
        parsed,
        tokenizer,
        _length_limit(spec.stages, "SFT", longest_chat),
        folder.examples_file("data.train"),
        records.format.NAME,
    )
    rows = _usable(checks, runner, source, folder.note)
    preference = read_preference(context, folder, tokenizer, _length_limit(spec.stages, "DPO", longest_chat))
    pairs = _usable(checks, runner, preference.source, folder.note_pairs) if preference else []
    groups = len({row.group for row in rows} | {pair.group for pair in pairs})
    rows, pairs = join_prompts(rows, pairs)
    production = _production(context, _length_limit(spec.stages, "SFT", longest_chat), checks, runner)
    documents = Documents(rows, pairs)
    near_duplicates = find_near_duplicates(documents, find_template(documents))
    usable_rows = UsableRows(rows, pairs, groups, near_duplicates, production)
    runner.run(checks.usable, usable_rows)
    earlier = read_sides(context.root, request.start_from)
    clusters = join_overlaps(documents, len(rows), near_duplicates.template, near_duplicates.clusters)
    split_data = _split(context, folder, usable_rows, clusters, earlier)
    split_data = replace(split_data, leaks=split_leakage.find_leaks(split_data))
    if split_data.leaked and not split_data.left_apart:  # join_overlaps has missed a few overlaps
        clusters = join_pairs(documents, clusters, split_data.leaked)
        split_data = _split(context, folder, usable_rows, clusters, earlier)
    if preference:
        runner.run(checks.pairs, split_data.pairs, folder.note_pairs)
    write_sides(folder.path, earlier, split_data.rows, split_data.pairs)
    runner.run(checks.split, split_data)
    runner.refuse_errors()

    dropped = len(source.dropped) + (len(preference.source.dropped) if preference else 0)
    dropped += split_data.conflicts
    of_production = production.plan(runner.measured.get(distribution_shift.NAME)) if production else None
    return CheckedRows(split_data, source, opened.sha256, preference, of_production, dropped, runner.warnings)


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
    context: Context, folder: DataFolder, usable: UsableRows, clusters: Indices, earlier: Sides
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
    split = split_rows(kept, fraction, placed, label_strata(kept, usable.labels))
    of_pairs = split_preference(context, folder, kept_pairs, rows=split, placed=placed)
    held_out = earlier.held_out | held_out_prompts(split, of_pairs)
    learned_rows, masked = without_held_out_turns(split.train, held_out)
    split = replace(split, train=learned_rows)
    folder.note({"split": check_sides(split, of_pairs, earlier, len(kept))})
    return SplitRows(
        split, of_pairs, masked, earlier, conflicts, usable.near_duplicates.template, joined.left_apart
    )


def _production(context: Context, longest: Limit, checks: Checks, runner: CheckRunner) -> Production | None:
    """Read the production inputs and run their checks. Return None if the job has no such inputs."""
    production = read_production(context, runner.context.tokenizer, longest)
    if production:
        runner.note(production.report)
        runner.run(checks.production, production)
        runner.refuse_errors()
    return production


def check_context(context: Context, tokenizer: PreTrainedTokenizerBase) -> CheckContext:
    request = context.request
    golden = {
        gate.name: golden_cases(gate.name, golden_text(context.root, gate.name, gate.spec.golden.source))
        for gate in request.gates
    }
    schemas = _metric_schemas(context)
    return CheckContext(request, tokenizer, golden, schemas, settings(request.spec.data))


def _metric_schemas(context: Context) -> dict[str, dict[str, Any]]:
    """Return the JSON schema of each task metric that has one."""
    metrics = context.request.spec.task_metrics
    schemas = {metric.name: metric_schema(context.root, metric) for metric in metrics}
    return {name: schema for name, schema in schemas.items() if schema is not None}


def _model(context: Context) -> ModelPlan:
    """Store the model of ``model.uri`` or ``model.startFrom`` on the storage volume. Return its entry in the
    plan."""
    start, source = context.request.start_from, context.request.spec.model
    logger.info("fetching the model %s", start.uri if start else source.uri)
    if start is not None:
        # Imported only if needed: importing PEFT takes two seconds.
        start_from = import_module("tunegate_trainer.artifacts.start_from")
        model: ModelPlan = start_from.resolve_start(context.root, context.workspace, start)
        return model
    return resolve_model(context, source)


def _check_stages(spec: FineTuneJobSpec) -> None:
    """Raise :class:`UserError` for settings of stages that contradict each other or need a missing
    package."""
    if any(stage.quantization for stage in spec.stages):
        require_bitsandbytes("stages.quantization is NF4")
    if spec.merge_adapter and spec.stages[-1].adapter is None:
        raise UserError(
            "mergeAdapter: the last stage trains all weights, so there is no adapter to merge",
            "remove mergeAdapter: the whole model is published anyway",
        )


def _length_limit(stages: Sequence[Stage], method: str, model_length: int) -> Limit:
    """Return the maximum example length that every stage with ``method`` accepts. If no stage has this
    method, all stages count."""
    of_method = [stage for stage in stages if stage.method == method]
    tokens, stage = min((stage_max_length(stage, model_length), stage.name) for stage in of_method or stages)
    return Limit(tokens, None if tokens == model_length else stage)


def load_model_tokenizer(folder: Path, arguments: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """Load the tokenizer and check its chat template. Raises :class:`UserError` if training cannot use it."""
    try:
        tokenizer = load_tokenizer(folder, arguments=arguments)
    except UserError as error:
        raise UserError(f"model.uri: {error}", error.hint) from error
    except Exception as error:  # tokenizers has no exception class, and damaged files cause many errors
        if getattr(error, "errno", None):  # an error of the disk, not of transformers
            raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(
            f"model.uri: the model's tokenizer cannot be loaded: {reason}",
            "check that the model has a complete tokenizer.json, or all other files of its tokenizer",
        ) from error
    check_template(tokenizer, arguments)
    return tokenizer
