"""Resolve every training parameter once: defaults are applied here and recorded in the plan."""

import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal

import torch

from tunegate_api.contract.plan import StagePlan, TrainingParameters
from tunegate_api.contract.request import Request
from tunegate_api.contract.shapes import Accelerator, ModelShape
from tunegate_api.memory.mixture_notes import mixture_notes
from tunegate_api.v1alpha2.pods import Resources
from tunegate_api.v1alpha2.shares import count_or_share, share
from tunegate_api.v1alpha2.stages import Stage, Training
from tunegate_api.verdict.counts import Aggregate, outcome_length
from tunegate_trainer.models.architecture import dropout_rates
from tunegate_trainer.models.target_modules import ALL_LINEAR
from tunegate_trainer.planning import defaults
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.tokens.examples import TOKENS_PER_PASS

DEFAULT_MAX_LENGTH = 2048
ADAMW = {"adam_beta1": "0.9", "adam_beta2": "0.999", "adam_epsilon": "1e-8"}
"""The default arguments of AdamW in PyTorch and transformers."""
MAX_CHECKPOINTS = 200
"""The maximum number of checkpoints per stage."""
MAX_OUTCOMES = 700_000
"""The maximum number of case outcomes per job. Each takes one byte, and all outcomes and the ids of cases
must fit into one ConfigMap of 1 MiB."""
BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""Instruction sets for bfloat16 as named by ``torch.cpu.get_capabilities``, on x86-64 and on Arm."""


def plan_stages(
    request: Request,
    lengths: Mapping[str, Sequence[int]],
    model_length: int,
    model_size: int,
    *,
    has_fast_attention: bool = True,
) -> list[StagePlan]:
    """Return the plan of each stage.

    ``lengths`` has, for each training method, the number of tokens of each training example. ``model_length``
    is the model's maximum input length in tokens, and ``model_size`` its number of parameters. Without
    ``has_fast_attention``, attention computes and stores all pairs of tokens in a pass, so passes are small
    on a GPU too.

    Raises :class:`UserError` for parameters that contradict each other.
    """
    stages: list[StagePlan] = []
    for stage in request.spec.stages:
        before = stages[-1] if stages else None
        stages.append(
            plan_stage(
                request,
                stage,
                lengths[stage.method],
                model_length=model_length,
                model_size=model_size,
                before=before,
                has_fast_attention=has_fast_attention,
            )
        )
    return stages


def plan_stage(
    request: Request,
    stage: Stage,
    lengths: Sequence[int],
    *,
    model_length: int,
    model_size: int,
    before: StagePlan | None = None,
    has_fast_attention: bool = True,
) -> StagePlan:
    """Return the plan of a stage. ``before`` is the plan of the previous stage, None for the first one."""
    training, rows = stage.training, len(lengths)
    processes = request.spec.resources.processes
    batch_size = training.batch_size or math.ceil(defaults.BATCH_SIZE / processes) * processes
    epochs = training.epochs or defaults.epochs(stage, rows)
    total_steps = training.max_steps or math.ceil(rows * epochs / batch_size)
    parameters = TrainingParameters(
        method=stage.method,
        adapter="LoRA" if stage.adapter else "None",
        **_adapter_parameters(stage, rows, before),
        epochs=round(total_steps * batch_size / rows, 4),
        learning_rate=float(training.learning_rate or defaults.learning_rate(stage, model_size)),
        scheduler=training.scheduler or "linear",
        warmup_steps=math.ceil(share(training.warmup_fraction or "3%") * total_steps),
        weight_decay=float(training.weight_decay or 0),
        max_grad_norm=float(training.max_grad_norm or 1),
        batch_size=batch_size,
        pass_tokens=pass_tokens(request.spec.resources.accelerator if has_fast_attention else "CPU"),
        max_length=stage_max_length(stage, model_length),
        seed=stage_seed(stage),
        dtype=base_dtype(request, stage),
        quantization=_quantization(stage, before),
        **_preference_parameters(stage),
        **_optimizer_parameters(training, request.spec.resources),
    )
    shared = parallelism(request.spec.resources, stage)
    if shared == "FSDP" and parameters.optim == "adafactor":
        raise UserError(
            f"stage {stage.name}: training.trainerArgs.optim is adafactor, which cannot train all weights on "
            "several GPUs",
            "remove trainerArgs.optim to use AdamW",
        )
    continues = stage.adapter is not None and stage.adapter.from_ is not None
    return StagePlan(
        name=stage.name,
        parameters=parameters,
        starts_from=None if before is None else "Adapter" if continues else "Merged",
        total_steps=total_steps,
        checkpoint_steps=checkpoint_steps(request.spec.evaluation.every, total_steps),
        tokens=sum(lengths),
        gates=[gate.name for gate in request.gates_of(stage.name)],
        parallelism=shared,
        gathered_dtype=request.gathered_dtype if shared == "FSDP" else None,
    )


def parallelism(resources: Resources, stage: Stage) -> Literal["DDP", "FSDP"] | None:
    """Return how several ranks train together: ``FSDP`` or ``DDP``. Returns None for one process.

    Training all weights takes sixteen bytes per parameter, so on GPUs the model is sharded with FSDP.
    Otherwise each rank has a copy of the model (DDP).
    """
    if resources.processes == 1:
        return None
    return "FSDP" if stage.adapter is None and resources.accelerator == "GPU" else "DDP"


def _adapter_parameters(stage: Stage, rows: int, before: StagePlan | None) -> dict[str, Any]:
    adapter = stage.adapter
    if adapter is None:
        return {}
    if adapter.from_ is not None:
        if before is None or before.parameters.adapter == "None":
            raise UserError(
                f"stage {stage.name}: adapter.from: Previous trains the previous stage's adapter further, "
                "but that stage trains all weights and has no adapter",
                "set adapter.type: LoRA for a new adapter, or remove adapter to train all weights",
            )
        shape = before.parameters.model_dump(include={"lora_r", "lora_alpha", "target_modules"})
        # DPO uses no dropout, as in TRL: it would count as a difference from the reference model.
        dropout = 0.0 if stage.method == "DPO" else before.parameters.lora_dropout
        return {**shape, "lora_dropout": dropout}
    r = adapter.r or defaults.lora_rank(rows)
    return {
        "lora_r": r,
        "lora_alpha": adapter.alpha or 2 * r,
        "lora_dropout": float(adapter.dropout or 0),
        "target_modules": adapter.target_modules or [ALL_LINEAR],
    }


def _quantization(stage: Stage, before: StagePlan | None) -> Literal["NF4"] | None:
    """Return the quantization of the base model. A stage that trains the previous stage's adapter further
    uses the quantization of the previous stage.

    Raises :class:`UserError` if the stage sets another quantization.
    """
    if before is None or stage.adapter is None or stage.adapter.from_ is None:
        return stage.quantization
    quantization = before.parameters.quantization
    if stage.quantization and stage.quantization != quantization:
        raise UserError(
            f"stage {stage.name}: quantization is {stage.quantization}, but the stage continues the adapter "
            f"of stage {before.name}, which was trained without quantization",
            f"remove quantization here, or set it in stage {before.name} too",
        )
    return quantization


def _preference_parameters(stage: Stage) -> dict[str, Any]:
    if stage.method != "DPO":
        return {}
    return {"beta": float(stage.training.beta or "0.1"), "loss": stage.training.loss or "sigmoid"}


def _optimizer_parameters(training: Training, resources: Resources) -> dict[str, Any]:
    trainer_args = training.trainer_args or {}
    if trainer_args.get("optim") == "adafactor":
        return {"optim": "adafactor"}
    return {
        "optim": trainer_args.get("optim", defaults.adamw(resources)),
        **{name: float(trainer_args.get(name, value)) for name, value in ADAMW.items()},
    }


def base_dtype(request: Request, stage: Stage) -> str:
    """Return the dtype of the base weights: float32 if all weights are trained, else bfloat16.

    On a CPU without bfloat16 instructions, an adapter's base has float32 too: emulated bfloat16 makes a
    matrix product four times slower than float32 with AVX-512, and 70 to 140 times slower without AVX-512.
    The machine that trains is assumed to support the same instructions as this one.
    """
    if stage.adapter is None:
        return "float32"
    on_gpu = request.spec.resources.accelerator == "GPU"
    is_fast = on_gpu or any(torch.cpu.get_capabilities().get(name) for name in BFLOAT16_INSTRUCTIONS)
    return "bfloat16" if is_fast else "float32"


def stage_seed(stage: Stage) -> int:
    return 42 if stage.training.seed is None else stage.training.seed


def stage_max_length(stage: Stage, model_length: int) -> int:
    """Return the maximum length of a stage's examples in tokens.

    Raises :class:`UserError` if ``training.maxLength`` is more than ``model_length``.
    """
    requested = stage.training.max_length
    if requested is not None and requested > model_length:
        raise UserError(
            f"stage {stage.name}: training.maxLength is {requested}, but the model takes at most "
            f"{model_length} tokens",
            f"set training.maxLength to {model_length} or less",
        )
    return requested or min(DEFAULT_MAX_LENGTH, model_length)


def pass_tokens(accelerator: Accelerator) -> int:
    """Return the maximum number of tokens in a pass: the target of ``accelerator``, and half as many more.
    Otherwise, a step that is slightly longer than the target would need a second pass."""
    return TOKENS_PER_PASS[accelerator] * 3 // 2


def checkpoint_steps(every: int | str, total_steps: int) -> list[int]:
    """Return the optimizer steps after which a checkpoint is saved and evaluated. Between them is a number of
    steps or a share of all steps, such as ``"20%"``. The last step is one of them.

    Raises :class:`UserError` if there are more than ``MAX_CHECKPOINTS``.
    """
    distance = count_or_share(every)
    if isinstance(distance, Fraction):
        distance = max(total_steps * distance, Fraction(1))
    steps = [math.ceil(distance * k) for k in range(1, math.floor(total_steps / distance) + 1)]
    steps = sorted({*steps, total_steps} - {0})
    if len(steps) > MAX_CHECKPOINTS:
        raise UserError(
            f"evaluation.every gives {len(steps)} checkpoints in {total_steps} steps, but at most "
            f"{MAX_CHECKPOINTS} can be recorded",
            "raise evaluation.every to evaluate less often",
        )
    return steps


def check_outcomes(
    stages: Sequence[StagePlan],
    gate_cases: Mapping[str, int],
    dev_cases: Sequence[tuple[Aggregate | None, int]],
    safety_cases: int = 0,
) -> None:
    """Raise :class:`UserError` if all evaluations together have more case outcomes than can be recorded.

    ``gate_cases`` has the number of cases by gate on which checkpoints are evaluated, and ``dev_cases`` the
    number of dev rows or pairs of each task metric, with its aggregate, None for a pass rate. A case of a
    count-based metric counts as several outcomes, because its counts are recorded too. ``safety_cases`` is
    the number of cases in all safety sets.
    """
    dev_outcomes = sum(outcome_length(aggregate) * cases for aggregate, cases in dev_cases)
    outcomes = sum(
        (1 + len(stage.checkpoint_steps))
        * (dev_outcomes + sum(gate_cases.get(gate, 0) for gate in stage.gates))
        for stage in stages
    ) + sum(gate_cases.values())  # the base model is evaluated on all of them
    outcomes += 2 * safety_cases  # the base model and the artifact
    if outcomes > MAX_OUTCOMES:
        raise UserError(
            f"all evaluations together would have {outcomes:,} case outcomes, but at most {MAX_OUTCOMES:,} "
            "can be recorded",
            "raise evaluation.every to evaluate less often, or use fewer golden cases, safety cases or "
            "held-out rows",
        )


def plan_notes(config: Any, shape: ModelShape | None, stages: Sequence[StagePlan]) -> Iterator[str]:
    """Yield notes about the stages: what a mixture of experts trains and quantizes, and whether the model's
    own dropout is on. ``config`` is the ``PreTrainedConfig`` of the model."""
    if shape:
        yield from mixture_notes(shape, stages)
    rates = ", ".join(f"{name} {rate:g}" for name, rate in dropout_rates(config).items())
    for stage in stages:
        if rates and stage.parameters.method == "SFT":
            yield f"stage {stage.name}: the model's own dropout is on in training, as in TRL: {rates}"
