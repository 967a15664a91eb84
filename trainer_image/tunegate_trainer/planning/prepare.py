"""Check the model and the data of a job, split the data, and plan the stages."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedTokenizerBase

from tunegate_api.cases.golden import GoldenCase
from tunegate_api.cases.safety_cases import SafetyCase
from tunegate_api.contract.plan import DataPlan, SamplePlan, StagePlan
from tunegate_api.contract.shapes import Memory, ModelShape
from tunegate_api.contract.workspace import REVIEW_SAMPLE, golden_file, safety_file
from tunegate_api.v1alpha2.finetunejob import FineTuneJobSpec
from tunegate_api.v1alpha2.shares import share
from tunegate_api.v1alpha2.stages import Stage
from tunegate_api.verdict.counts import aggregate_of
from tunegate_trainer.checks import CHECKS, settings
from tunegate_trainer.checks.checked_rows import Limits, read_data
from tunegate_trainer.checks.finding import CheckContext
from tunegate_trainer.checks.runner import CheckRunner
from tunegate_trainer.data.folder import DataFolder
from tunegate_trainer.data.preference import preference_plan
from tunegate_trainer.data.review_sample import write_sample
from tunegate_trainer.data.token_ids import check_token_ids
from tunegate_trainer.data.usable import Limit, TrainedRows, UsableRow
from tunegate_trainer.evaluate.config_map_files import metric_schema, schema_sha256
from tunegate_trainer.evaluate.gate_sets import read_sets
from tunegate_trainer.evaluate.golden_sets import golden_sets
from tunegate_trainer.evaluate.safety_sets import safety_sets
from tunegate_trainer.evaluate.sets import check_metrics, check_prompts
from tunegate_trainer.models.architecture import attention_of, separate_passes_reason
from tunegate_trainer.models.matching_weights import check_matching_weights, embedding_rows
from tunegate_trainer.models.resolve import model_length, require_bitsandbytes
from tunegate_trainer.models.safetensors import stored_dtype
from tunegate_trainer.models.shape import model_shape
from tunegate_trainer.models.target_modules import auto_class_name, check_target_modules
from tunegate_trainer.models.targets import with_targets
from tunegate_trainer.planning.plan import check_outcomes, plan_notes, plan_stages, stage_max_length
from tunegate_trainer.planning.sizing import generation_batches, with_memory
from tunegate_trainer.planning.too_large import GateMemory, too_large_error
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import GpuTooSmallError, UserError
from tunegate_trainer.tokens.model_tokenizer import load_model_tokenizer
from tunegate_trainer.tokens.rows import PREFERENCE, Row


@dataclass(frozen=True)
class Prepared:
    """The plan of a job without its model: what needs the rows, and the configuration and tokenizer of the
    model, but no weights."""

    data: DataPlan
    stages: list[StagePlan]
    judging: Memory | None
    """The memory that the final gate needs. None if the shape of the model is not known."""
    shape: ModelShape | None
    auto_class: str
    too_large: GpuTooSmallError | None
    """The error if the job does not fit one GPU."""


def prepare(
    context: Context,
    folder: DataFolder,
    model_folder: Path,
    parameters: int,
    *,
    is_merged: bool = False,
) -> Prepared:
    """Check model and data, write the train, dev and test files into ``folder``, and plan the stages.

    ``model_folder`` has the model's configuration and tokenizer, and ``parameters`` is the number of its
    parameters. For ``is_merged``, see :class:`GateMemory`. Raises :class:`TrainerError` if a check fails.
    """
    request = context.request
    spec = request.spec
    longest_chat = model_length(model_folder)
    tokenizer = load_model_tokenizer(model_folder, spec.model.chat_template_args or {})
    _check_stages(request.spec)
    check_metrics(spec.task_metrics)
    check_target_modules(model_folder, spec.stages)
    check_matching_weights(model_folder)
    embeddings = embedding_rows(model_folder)
    golden = golden_sets(context, tokenizer, request.gates)
    safety = safety_sets(context, tokenizer, request.safety_gates)
    for gate in request.gates:
        files = (golden_file(gate.name), safety_file(gate.name))
        with context.tolerating(gate):
            of_gate = [each for each in (*golden, *safety) if each.file in files]
            check_prompts(tokenizer, of_gate, longest_chat, embeddings)
    checking = check_context(context, tokenizer)
    runner = CheckRunner(checking, folder.note)
    try:
        data = read_data(context, folder, length_limits(spec.stages, longest_chat), CHECKS, runner)
    finally:
        folder.write_report()
        context.send_report(data_checks=runner.results)
    check_token_ids(data.sources, embeddings)
    split, of_pairs, warnings = data.rows.rows, data.rows.pairs, list(data.warnings)
    masked = [position for position, answers in enumerate(data.rows.masked) if answers]
    trained = [TrainedRows(split.train, data.source, masked), *(one.epoch for one in data.mix)]
    distinct = [*split.train, *(row for one in data.mix for row in one.rows)]
    of_epoch = [row for part in trained for row in part.rows]

    lengths = {
        "SFT": [row.tokens for row in of_epoch],
        "DPO": [pair.tokens for pair in of_pairs.train],
    }
    config = AutoConfig.from_pretrained(model_folder, trust_remote_code=False)
    stages = plan_stages(
        request,
        lengths,
        longest_chat,
        parameters,
        has_fast_attention=attention_of(config) == "sdpa",
    )
    reason = separate_passes_reason(config, on_gpu=spec.resources.accelerator == "GPU")
    if reason:
        warnings.append(f"the model computes one example at a time, so training is slower: {reason}")
    stages = with_targets(model_folder, stages)
    shape = model_shape(model_folder)
    batches = generation_batches(request, tokenizer, split.dev, [*golden, *safety])
    warnings += plan_notes(config, shape, stages)
    if shape:
        stages = with_memory(
            request, stages, shape, tokenizer, rows=of_epoch, pairs=of_pairs.train, batches=batches
        )
    elif spec.resources.gpu and spec.resources.gpu.memory:
        warnings.append(
            "it was not checked whether the job fits resources.gpu.memory: the sizes of this model's "
            "layers are "
            "unknown"
        )
    dev_cases = [
        (
            aggregate_of(metric.type, metric.average),
            len(of_pairs.dev if metric.type == PREFERENCE else split.dev),
        )
        for metric in spec.task_metrics
    ]
    check_outcomes(stages, _case_counts(checking), dev_cases, sum(len(one.cases) for one in safety))
    memory = GateMemory(
        request, shape, parameters, stages, batches, stored_dtype(model_folder), is_merged=is_merged
    )
    return Prepared(
        data=DataPlan(
            source_sha256=data.source.sha256,
            **folder.write_split(split, trained),
            dropped=data.dropped,
            mix=[one.plan for one in data.mix],
            preference=preference_plan(folder, data.preference, of_pairs),
            review=_review_sample(context, folder, distinct),
            production=data.production,
            schemas_sha256={name: schema_sha256(schema) for name, schema in checking.schemas.items()},
            warnings=warnings,
        ),
        stages=stages,
        judging=memory.memory(),
        shape=shape,
        auto_class=auto_class_name(model_folder),
        too_large=too_large_error(memory),
    )


def _review_sample(context: Context, folder: DataFolder, rows: Sequence[UsableRow[Row]]) -> SamplePlan | None:
    """Write the sample of the training rows that is reviewed. Return its entry in the plan, or None if the
    spec requires no review."""
    quality = context.request.spec.data.quality
    if quality is None:
        return None
    return write_sample(folder.path / REVIEW_SAMPLE, rows, share(quality.sample))


def check_context(context: Context, tokenizer: PreTrainedTokenizerBase) -> CheckContext:
    request = context.request
    golden = read_sets(context, request.gates, GoldenCase)
    schemas = _metric_schemas(context)
    required = frozenset(gate.name for gate in request.gates if gate.required)
    safety = read_sets(context, request.safety_gates, SafetyCase)
    return CheckContext(request, tokenizer, golden, schemas, settings(request.spec.data), required, safety)


def _case_counts(checking: CheckContext) -> dict[str, int]:
    """Return the number of cases by gate on which each checkpoint of its stages is evaluated."""
    return {
        gate.name: len(checking.golden.get(gate.name, ()))
        + (len(checking.safety.get(gate.name, ())) if gate.safety_at_checkpoints else 0)
        for gate in checking.request.gates
    }


def _metric_schemas(context: Context) -> dict[str, dict[str, Any]]:
    metrics = context.request.spec.task_metrics
    schemas = {metric.name: metric_schema(context.root, metric) for metric in metrics}
    return {name: schema for name, schema in schemas.items() if schema is not None}


def _check_stages(spec: FineTuneJobSpec) -> None:
    """Raise :class:`UserError` for settings of stages that contradict each other or need a missing
    package."""
    if any(stage.quantization for stage in spec.stages):
        require_bitsandbytes("stages.quantization is NF4")
    if spec.artifact.form == "Merged" and spec.stages[-1].adapter is None:
        raise UserError(
            "artifact.form: the last stage trains all weights, so there is no adapter to merge",
            "remove artifact.form: the whole model is published anyway",
        )


def length_limits(stages: Sequence[Stage], model_length: int) -> Limits:
    """Return the maximum length of examples of each method, for a model with this maximum length."""
    return {method: _length_limit(stages, method, model_length) for method in ("SFT", "DPO")}


def _length_limit(stages: Sequence[Stage], method: str, model_length: int) -> Limit:
    """Return the maximum example length that every stage with ``method`` accepts. If no stage has this
    method, all stages count."""
    of_method = [stage for stage in stages if stage.method == method]
    tokens, stage = min((stage_max_length(stage, model_length), stage.name) for stage in of_method or stages)
    return Limit(tokens, None if tokens == model_length else stage)
