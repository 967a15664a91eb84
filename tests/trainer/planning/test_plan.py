"""The plan resolves every parameter that a spec leaves out."""

import pytest
import torch

from support.trainer_root import TrainerRoot, stage_plan
from tunegate_api.v1alpha2.evaluation import EvaluationSettings
from tunegate_api.v1alpha2.pods import Resources
from tunegate_api.v1alpha2.stages import Stage
from tunegate_api.verdict.counts import Aggregate
from tunegate_trainer.planning import plan
from tunegate_trainer.planning.plan import check_outcomes, checkpoint_steps, plan_stage
from tunegate_trainer.process.errors import UserError

BILLION = 1_000_000_000


def stage(**training: object) -> Stage:
    return Stage.model_validate(
        {"name": "sft", "method": "SFT", "adapter": {"type": "LoRA"}, "training": training}
    )


def planned(tmp_path, tiny_model, lengths, **training):
    request = TrainerRoot(tmp_path).write(tiny_model).context().request
    return plan_stage(request, stage(**training), lengths, model_length=4096, model_size=7 * BILLION)


def has_instructions(monkeypatch, *names):
    known = ("avx512_f", "avx512_vnni", "avx512_bf16", "neon", "bf16")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {name: name in names for name in known})


@pytest.mark.parametrize(
    ("accelerator", "instructions", "adapter", "dtype"),
    [
        ("GPU", (), "LoRA", "bfloat16"),
        ("CPU", ("avx512_f", "avx512_bf16"), "LoRA", "bfloat16"),
        ("CPU", ("neon", "bf16"), "LoRA", "bfloat16"),
        ("CPU", ("avx512_f", "avx512_vnni"), "LoRA", "float32"),
        ("CPU", ("neon",), "LoRA", "float32"),
        ("GPU", ("avx512_bf16",), None, "float32"),
    ],
)
def test_base_weights_are_bfloat16_if_hardware_supports_it(
    tmp_path, tiny_model, monkeypatch, accelerator, instructions, adapter, dtype
):
    has_instructions(monkeypatch, *instructions)
    request = TrainerRoot(tmp_path).write(tiny_model).context().request
    resources = request.spec.resources.model_copy(update={"accelerator": accelerator})
    request = request.model_copy(update={"spec": request.spec.model_copy(update={"resources": resources})})
    made = stage() if adapter else stage().model_copy(update={"adapter": None})
    assert plan.base_dtype(request, made) == dtype


def test_plan_defaults_match_the_api_page(tmp_path, tiny_model, monkeypatch):
    has_instructions(monkeypatch, "avx512_bf16")
    parameters = planned(tmp_path, tiny_model, [50] * 1600).parameters
    assert parameters.model_dump(exclude_none=True) == {
        "method": "SFT",
        "adapter": "LoRA",
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.0,
        "target_modules": ["all-linear"],
        "epochs": 3.0,
        "learning_rate": 2e-4,
        "scheduler": "linear",
        "warmup_steps": 9,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "batch_size": 16,
        "pass_tokens": 1536,
        "max_length": 2048,
        "seed": 42,
        "dtype": "bfloat16",
        "optim": "adamw_torch",
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "adam_epsilon": 1e-8,
    }


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"adam_beta2": "0.95", "optim": "adamw_torch_fused"}, ("adamw_torch_fused", 0.9, 0.95)),
        ({"optim": "adafactor"}, ("adafactor", None, None)),
    ],
)
def test_trainer_args_are_recorded_in_the_plan(tmp_path, tiny_model, setting, expected):
    parameters = planned(tmp_path, tiny_model, [50] * 160, trainerArgs=setting).parameters
    assert (parameters.optim, parameters.adam_beta1, parameters.adam_beta2) == expected


def test_full_fine_tuning_plan_has_own_defaults_without_lora(tmp_path, tiny_model):
    request = TrainerRoot(tmp_path).write(tiny_model).context().request
    whole = Stage.model_validate({"name": "sft", "method": "SFT"})
    parameters = plan_stage(request, whole, [50] * 160, model_length=4096, model_size=7 * BILLION).parameters
    assert (parameters.adapter, parameters.learning_rate, parameters.dtype) == ("None", 1e-5, "float32")
    assert parameters.lora_r is parameters.lora_alpha is parameters.target_modules is None


@pytest.mark.parametrize(
    ("method", "adapter", "size", "rate"),
    [
        ("SFT", True, 135_000_000, 5e-4),
        ("SFT", True, 7 * BILLION, 2e-4),
        ("SFT", True, 70 * BILLION, 1e-4),
        ("SFT", False, 135_000_000, 5e-5),
        ("SFT", False, 3 * BILLION, 2e-5),
        ("SFT", False, 7 * BILLION, 1e-5),
        ("DPO", True, 7 * BILLION, 5e-6),
        ("DPO", False, 7 * BILLION, 5e-7),
    ],
)
def test_learning_rate_depends_on_method_and_model_size(tmp_path, tiny_model, method, adapter, size, rate):
    request = TrainerRoot(tmp_path).write(tiny_model).context().request
    with_adapter = {"adapter": {"type": "LoRA"}} if adapter else {}
    open_stage = Stage.model_validate({"name": "sft", "method": method, **with_adapter})
    made = plan_stage(request, open_stage, [50] * 1000, model_length=4096, model_size=size)
    assert made.parameters.learning_rate == rate


@pytest.mark.parametrize(
    ("setting", "expected"),
    [({}, ("sigmoid", 0.1)), ({"loss": "ipo", "beta": "0.3"}, ("ipo", 0.3))],
    ids=["default", "set"],
)
def test_dpo_loss_is_recorded_in_the_plan(tmp_path, tiny_model, setting, expected):
    request = TrainerRoot(tmp_path).write(tiny_model).context().request
    made = Stage.model_validate(
        {"name": "sft", "method": "DPO", "adapter": {"type": "LoRA"}, "training": setting}
    )
    parameters = plan_stage(request, made, [50] * 1000, model_length=4096, model_size=BILLION).parameters
    assert (parameters.loss, parameters.beta) == expected


@pytest.mark.parametrize(
    ("rows", "method", "epochs", "rank"),
    [
        (200, "SFT", 5, 16),
        (500, "SFT", 3, 16),
        (10_000, "SFT", 3, 16),
        (10_001, "SFT", 2, 64),
        (50_001, "SFT", 1, 64),
        (200, "DPO", 1, 16),
    ],
)
def test_epochs_and_lora_rank_depend_on_number_of_rows(tmp_path, tiny_model, rows, method, epochs, rank):
    request = TrainerRoot(tmp_path).write(tiny_model).context().request
    open_stage = Stage.model_validate({"name": "sft", "method": method, "adapter": {"type": "LoRA"}})
    made = plan_stage(request, open_stage, [50] * rows, model_length=4096, model_size=7 * BILLION)
    assert made.total_steps == -(-rows * epochs // 16)
    assert (made.parameters.lora_r, made.parameters.lora_alpha) == (rank, 2 * rank)


def test_total_steps_are_rounded_up_over_all_epochs(tmp_path, tiny_model):
    assert planned(tmp_path, tiny_model, [50] * 101, epochs=3, batchSize=8).total_steps == 38


def test_max_steps_replaces_epochs(tmp_path, tiny_model):
    made = planned(tmp_path, tiny_model, [50] * 100, maxSteps=7, batchSize=10)
    assert (made.total_steps, made.parameters.epochs) == (7, 0.7)


def test_gpu_gets_larger_passes_and_the_fused_optimizer(tmp_path, tiny_model):
    def parameters_on(resources):
        root = TrainerRoot(tmp_path / resources["accelerator"], spec={"resources": resources})
        request = root.write(tiny_model).context().request
        stage = request.spec.stages[0]
        lengths = [200] * 160
        return plan_stage(request, stage, lengths, model_length=4096, model_size=7 * BILLION).parameters

    cpu = parameters_on({"accelerator": "CPU"})
    gpu = parameters_on({"accelerator": "GPU", "gpu": {"count": 1}})
    assert (cpu.pass_tokens, cpu.optim) == (1536, "adamw_torch")
    assert (gpu.pass_tokens, gpu.optim) == (12_288, "adamw_torch_fused")


@pytest.mark.parametrize(
    ("every", "total", "steps"),
    [
        (EvaluationSettings().every, 50, [10, 20, 30, 40, 50]),
        ("20%", 52, [11, 21, 32, 42, 52]),
        ("30%", 10, [3, 6, 9, 10]),
        ("100%", 10, [10]),
        ("10%", 3, [1, 2, 3]),
        ("33.333%", 9, [3, 6, 9]),
        ("0.5%", 400, list(range(2, 401, 2))),
        ("0.000000001%", 3, [1, 2, 3]),
        (4, 10, [4, 8, 10]),
        (20, 10, [10]),
    ],
)
def test_checkpoints_are_evenly_spaced_and_include_last_step(every, total, steps):
    assert checkpoint_steps(every, total) == steps


def test_too_many_checkpoints_are_refused():
    with pytest.raises(UserError, match="gives 1000 checkpoints in 1000 steps, but at most 200"):
        checkpoint_steps(1, 1000)


def test_max_length_above_model_limit_is_refused(tmp_path, tiny_model):
    with pytest.raises(UserError, match="maxLength is 5000, but the model takes at most 4096 tokens"):
        planned(tmp_path, tiny_model, [50] * 100, maxLength=5000)


def test_too_many_case_outcomes_are_refused_before_training(tmp_path, tiny_model):
    often = planned(tmp_path, tiny_model, [50] * 100, maxSteps=1000)
    often = often.model_copy(update={"checkpoint_steps": list(range(5, 1001, 5)), "gates": ["a", "b"]})
    check_outcomes(
        [often],
        {"a": 1000, "b": 1000, "of another stage": 1000},
        dev_cases=[(None, 700), (None, 700)],
    )
    with pytest.raises(UserError, match=r"would have 705,500 case outcomes, but at most 700,000") as raised:
        check_outcomes([often], {"a": 1000, "b": 1000}, dev_cases=[(None, 1500)])
    assert raised.value.hint == (
        "raise evaluation.every to evaluate less often, or use fewer golden cases, safety cases or "
        "held-out rows"
    )


def test_outcome_of_a_count_metric_counts_as_several_case_outcomes():
    planned = stage_plan("sft", checkpoint_steps=range(1, 51))
    check_outcomes([planned], {"orders": 1000}, dev_cases=[(None, 1000)])
    with pytest.raises(UserError, match="would have 715,000 case outcomes, but at most 700,000"):
        check_outcomes([planned], {"orders": 1000}, dev_cases=[(Aggregate.MEAN, 1000)])


@pytest.mark.parametrize(
    ("resources", "adapter", "parallelism"),
    [
        ({}, "LoRA", None),
        ({"gpu": {"count": 1}}, None, None),
        ({"gpu": {"count": 4}}, "LoRA", "DDP"),
        ({"gpu": {"count": 4}}, None, "FSDP"),
        ({"nodes": 2}, None, "FSDP"),
        ({"accelerator": "CPU", "nodes": 2}, None, "DDP"),
    ],
)
def test_full_fine_tuning_on_several_gpus_uses_fsdp(resources, adapter, parallelism):
    made = stage() if adapter else stage().model_copy(update={"adapter": None})
    assert plan.parallelism(Resources.model_validate(resources), made) == parallelism


@pytest.mark.parametrize(
    ("nodes", "precision", "gathered"),
    [(2, "Auto", "bfloat16"), (2, "Float32", "float32"), (1, "Auto", None)],
)
def test_fsdp_gathers_in_bfloat16_unless_the_job_evaluates_in_float32(
    tmp_path, tiny_model, nodes, precision, gathered
):
    spec = {"resources": {"nodes": nodes}, "evaluation": {"precision": precision}}
    root = TrainerRoot(tmp_path, spec=spec)
    request = root.write(tiny_model).context().request
    whole = stage().model_copy(update={"adapter": None})
    found = plan_stage(request, whole, [50] * 160, model_length=4096, model_size=10**8)
    assert found.gathered_dtype == gathered


def test_adafactor_with_fsdp_is_refused(tmp_path, tiny_model):
    request = TrainerRoot(tmp_path, spec={"resources": {"nodes": 2}}).write(tiny_model).context().request
    training = {"trainerArgs": {"optim": "adafactor"}}
    whole = Stage.model_validate({"name": "sft", "method": "SFT", "training": training})
    with pytest.raises(UserError, match=r"stage sft: .* is adafactor, which cannot train all weights"):
        plan_stage(request, whole, [50] * 160, model_length=4096, model_size=10**8)


def test_default_batch_size_divides_evenly_among_ranks(tmp_path, tiny_model):
    resources = {"nodes": 3, "gpu": {"count": 2}}
    request = TrainerRoot(tmp_path, spec={"resources": resources}).write(tiny_model).context().request
    parameters = plan_stage(request, stage(), [50] * 160, model_length=4096, model_size=10**8).parameters
    assert parameters.batch_size == 18
