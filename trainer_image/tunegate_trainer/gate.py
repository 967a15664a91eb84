"""The gate role: build the artifact that would be published, load exactly its bytes, judge them.

The only role that opens the test split. A verdict is no outcome: it ends well when it could measure.
"""

import logging
import shutil
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from tunegate_api.contract import FileManifest, Subject, files_digest
from tunegate_api.judgement import Judgement, judge_artifact
from tunegate_api.meta import Sha256
from tunegate_api.v1alpha1.finetunejob_status import Progress
from tunegate_trainer.base_model import verified_base
from tunegate_trainer.context import Context
from tunegate_trainer.errors import SourceNotFoundError, StorageError, UserError
from tunegate_trainer.evaluate.baselines import BaselineCache
from tunegate_trainer.evaluate.evaluate import Weights, as_evaluation, as_results, evaluate, write_cases
from tunegate_trainer.evaluate.generate import device_name
from tunegate_trainer.evaluate.sets import golden_sets, task_metrics
from tunegate_trainer.files import is_complete, read_manifest, remove, seal, verify, write_model
from tunegate_trainer.gate_result import GateResult, GateVerdict
from tunegate_trainer.model import choose_device, load_adapter, load_base, load_tokenizer

logger = logging.getLogger(__name__)

_ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")
"""What of a checkpoint is published. The optimizer's state is not."""
_TOKENIZER_FILES = ("*token*.json", "vocab*", "merges.txt", "*.model", "chat_template*")
"""What of the base model is published with an adapter: whoever loads it must render chats the same way."""


def run(context: Context, stage: str | None, step: int | None) -> None:
    """Judge the checkpoint of ``stage`` at ``step``, the best of those that passed.

    Leaves the artifact in ``model/``, outputs and result in ``gate/``, and reports both evaluations. Raises
    :class:`TrainerError` where it cannot measure.
    """
    if stage is None or step is None:
        raise UserError("the gate role needs --stage and --step")
    request, plan, workspace = context.request, context.plan, context.workspace
    dtype = plan.stage(stage).parameters.dtype
    last_stage = plan.stages[-1].name
    folder = workspace / context.paths.gate
    device = choose_device(request)

    artifact = workspace / context.paths.model
    base_model_folder = verified_base(workspace, plan)
    manifest = build_artifact(workspace / context.paths.checkpoint(stage, step), base_model_folder, artifact)
    tokenizer = load_tokenizer(artifact)
    sets = [*golden_sets(context, tokenizer, request.final_gates), task_metrics(context, tokenizer, "test")]

    _report_activity(context, stage, step, "judging the base model")
    base_model = load_base(base_model_folder, dtype, device)
    base_results = BaselineCache(context, dtype, device).evaluate(base_model, tokenizer, sets)
    base_weights = Weights(Subject.BASE, last_stage, step=0, digest=plan.model.digest)
    base = as_evaluation(base_weights, sets, base_results)

    _report_activity(context, stage, step, "judging the final model")
    model = load_artifact(base_model, artifact)
    final_results = evaluate(model, tokenizer, sets)
    final_weights = Weights(Subject.FINAL, last_stage, step, manifest.digest)
    final = as_evaluation(final_weights, sets, final_results)

    for evaluation_set, base_result, result in zip(sets, base_results, final_results, strict=True):
        write_cases(folder / f"base-{evaluation_set.file}", base_result)
        write_cases(folder / evaluation_set.file, result)
    results = as_results(sets, [base, final])
    judgement = judge_artifact(request, results, final)
    verdicts = _verdicts(judgement)
    for each in verdicts:
        logger.info("%s: %s, %s%s", each.name, each.state, each.message, " (dry run)" if each.dry_run else "")
    write_model(
        folder / "result.json",
        GateResult(
            stage=stage,
            step=step,
            artifact=manifest.digest,
            device=device_name(device),
            dtype=dtype,
            generation={name: s.generation for s in sets for name in s.names.values()},
            evaluations=[base, final],
            verdicts=verdicts,
            verdict=judgement.state,
        ),
    )
    context.tell(results=results)


def _report_activity(context: Context, stage: str, step: int, activity: str) -> None:
    context.tell(
        progress=Progress(
            stage=stage,
            step=step,
            total_steps=context.plan.stage(stage).total_steps,
            percent=100,
            activity=activity,
            updated=datetime.now(UTC),
        )
    )


def load_artifact(base_model: PreTrainedModel, artifact: Path) -> Any:
    """``base_model`` with the artifact's adapter. Returns a ``peft.PeftModel``.

    Raises :class:`StorageError` if the artifact changed meanwhile, in adapter or tokenizer.
    """
    model = load_adapter(base_model, artifact, trainable=False)
    problems = verify(artifact)
    if problems:  # checked after loading, so that what was loaded is what the digest says
        raise StorageError(f"the artifact changed while it was loaded: {'; '.join(problems)}")
    return model


def build_artifact(checkpoint: Path, base: Path, artifact: Path) -> FileManifest:
    """Make ``artifact`` from a checkpoint and the base model's tokenizer: whole and hashed, or not there.

    One that is already there with just these files, undamaged, stays. Raises :class:`StorageError` if the
    checkpoint's files are not what its manifest says.
    """
    if not is_complete(checkpoint):
        raise SourceNotFoundError(
            f"there is no complete checkpoint {checkpoint.parent.name}/{checkpoint.name}"
        )
    problems = verify(checkpoint)
    if problems:
        raise StorageError(
            f"checkpoint {checkpoint.parent.name}/{checkpoint.name} is damaged: {'; '.join(problems)}",
            "something changed files on the volume, or it lost them",
        )
    sources = _artifact_files(checkpoint, base)
    files = {path.name: digest for path, digest in sources.items()}
    expected = FileManifest(files=files, digest=files_digest(files))
    if is_complete(artifact) and not verify(artifact) and read_manifest(artifact) == expected:
        return expected
    scratch = artifact.with_name(f"{artifact.name}.scratch")
    for folder in (scratch, artifact):
        remove(folder)
    scratch.mkdir(parents=True)
    for path in sources:
        shutil.copyfile(path, scratch / path.name)
    if seal(scratch) != expected:
        raise StorageError("checkpoint or base model changed while the artifact was made of them")
    scratch.rename(artifact)
    return expected


def _artifact_files(checkpoint: Path, base: Path) -> dict[Path, Sha256]:
    """What an artifact is made of, each file with its digest by the manifest of where it comes from."""
    adapter, base_files = read_manifest(checkpoint).files, read_manifest(base).files
    tokenizer = [n for n in base_files if any(fnmatch(n, pattern) for pattern in _TOKENIZER_FILES)]
    return {checkpoint / name: adapter[name] for name in _ADAPTER_FILES} | {
        base / name: base_files[name] for name in sorted(tokenizer)
    }


def _verdicts(judgement: Judgement) -> list[GateVerdict]:
    """One for each gate, and one for all task metrics."""
    gates = [
        GateVerdict(name=g.name, state=g.verdict.state, message=g.verdict.message, dry_run=g.dry_run)
        for g in judgement.gates
    ]
    tasks = GateVerdict(name="taskMetrics", state=judgement.task_state, message=judgement.task_message)
    return [*gates, tasks]
