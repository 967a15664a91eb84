"""The data role: fetch model and data, check every row, split off the held-out rows, and write the plan.

This role needs no GPU. If it refuses a job, no GPU is ever requested.
"""

import logging
from importlib import import_module
from pathlib import Path

from pydantic import ValidationError

from tunegate_api.contract.plan import ModelPlan, Plan
from tunegate_api.contract.process import Outcome
from tunegate_api.contract.workspace import PAIRS_PREFIX, REVIEW_SAMPLE, Workspace
from tunegate_trainer.data.folder import DataFolder
from tunegate_trainer.data.review_sample import has_sample
from tunegate_trainer.data.sides import SIDES_FILE
from tunegate_trainer.data.split import SIDES
from tunegate_trainer.evaluate.config_map_files import planned_schema
from tunegate_trainer.evaluate.servers import check_servers
from tunegate_trainer.evaluate.sets import check_split
from tunegate_trainer.evaluate.stored_sets import store_sets
from tunegate_trainer.graders.model.gates import calibrate_judges
from tunegate_trainer.graders.model.review import judge_server, with_judge
from tunegate_trainer.models.resolve import resolve_model
from tunegate_trainer.planning.prepare import Prepared, prepare
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import TrainerError
from tunegate_trainer.process.files import is_complete, write_model
from tunegate_trainer.process.packages import library_versions

logger = logging.getLogger(__name__)


def run(context: Context) -> Outcome:
    """Write the plan and the files whose digests it contains, and send the plan to the operator.

    If an earlier attempt has written them, they are used again.

    Raises :class:`TrainerError` if the job cannot be trained.
    """
    folder = context.workspace / context.paths.data
    _create_folders(context)
    store_sets(context)
    plan = _earlier_plan(context, folder) or _create_plan(context, DataFolder(folder))
    context.send_report(plan=plan)
    data = plan.data
    logger.info("data: %d train, %d dev, %d test rows", data.train.rows, data.dev.rows, data.test.rows)
    if data.preference:
        pairs = data.preference
        logger.info("pairs: %d train, %d dev, %d test", pairs.train.rows, pairs.dev.rows, pairs.test.rows)
    return Outcome.COMPLETED


def _create_folders(context: Context) -> None:
    """Create the folders of the workspace that pods of other roles mount. A kubelet would create them as
    root."""
    paths = context.paths
    for folder in (paths.job, paths.models, paths.baselines):
        (context.workspace / folder).mkdir(parents=True, exist_ok=True)


def _earlier_plan(context: Context, folder: Path) -> Plan | None:
    """Return the plan of an earlier attempt.

    Returns None unless the plan, sides.json, the base model, the review sample, the train, dev and test
    files, and the schemas of task metrics still exist, with the digests in the plan.
    """
    try:
        plan = Plan.model_validate_json((folder / "plan.json").read_bytes())
        for side in SIDES:
            check_split(folder / f"{side}.jsonl", getattr(plan.data, side))
            if plan.data.preference:
                check_split(folder / f"{PAIRS_PREFIX}{side}.jsonl", getattr(plan.data.preference, side))
        for metric in context.request.spec.task_metrics:
            planned_schema(context.root, metric, plan.data)
        (folder / SIDES_FILE).stat()
    except (FileNotFoundError, ValidationError, TrainerError):
        return None
    sample = plan.data.review
    if sample and not has_sample(folder / REVIEW_SAMPLE, sample):
        return None
    return plan if is_complete(context.workspace / Workspace.base_model(plan.model.digest)) else None


def _create_plan(context: Context, folder: DataFolder) -> Plan:
    judge = judge_server(context)  # first, because a wrong address needs no download
    golden, warnings = check_servers(context)
    model = _model(context)
    if any(gate.spec.pinned_version for gate in context.request.final_gates):
        # Imported only if needed: importing PEFT takes two seconds.
        import_module("tunegate_trainer.artifacts.pinned_version").check_pinned_versions(
            context, model.digest
        )
    try:
        model_folder = context.workspace / Workspace.base_model(model.digest)
        prepared = prepare(context, folder, model_folder, model.parameters, is_merged=model.is_merged)
        if prepared.too_large:
            raise prepared.too_large
        plan = _plan(context, model, prepared)
        plan = with_judge(context, plan, judge)  # after all checks, because the answers of a judge cost money
        judges, of_judges = calibrate_judges(context, golden)
    finally:
        folder.remove_scratch()
    warnings = [*context.dry_run_faults.values(), *warnings, *of_judges, *plan.data.warnings]
    data = plan.data.model_copy(update={"warnings": warnings})
    plan = plan.model_copy(update={"data": data, "gate_judges": judges})
    write_model(folder.path / "plan.json", plan)  # last: the plan implies that all files it pins exist
    return plan


def _plan(context: Context, model: ModelPlan, prepared: Prepared) -> Plan:
    found = {
        "shape": prepared.shape,
        "auto_class": prepared.auto_class,
        "chat_template_args": context.request.spec.model.chat_template_args or {},
    }
    return Plan(
        job_uid=context.request.uid,
        model=model.model_copy(update=found),
        data=prepared.data,
        stages=prepared.stages,
        judging=prepared.judging,
        versions=library_versions(),
    )


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
