"""Every parameter of the plan takes effect."""

import json
from typing import Any

import pytest
import torch

from support.trainer_root import TrainerRoot
from tunegate_trainer.models.loading import load_base
from tunegate_trainer.process.interruption import Interrupted, Interruption
from tunegate_trainer.roles import train as train_role
from tunegate_trainer.train.start import trainable

CPU = torch.device("cpu")


def train(root: TrainerRoot) -> list[dict[str, Any]]:
    """Train the stage, and return the lines of its losses.jsonl."""
    train_role.run(root.context())
    return [json.loads(line) for line in (root.stage_folder / "losses.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("scheduler", "shares"),
    [
        ("constant", [0, 1 / 3, 2 / 3, 1, 1, 1]),
        ("linear", [0, 1 / 3, 2 / 3, 1, 2 / 3, 1 / 3]),
        ("cosine", [0, 1 / 3, 2 / 3, 1, 0.75, 0.25]),
    ],
)
def test_learning_rate_warms_up_and_follows_scheduler(make_root, scheduler, shares):
    parameters = {"scheduler": scheduler, "warmup_steps": 3, "learning_rate": 1e-2}
    lines = train(make_root(checkpoint_steps=(6,), parameters=parameters))
    assert [line["learning_rate"] for line in lines] == pytest.approx([1e-2 * share for share in shares])


def test_checkpoint_has_planned_rank_alpha_and_target_modules(make_root):
    parameters = {"lora_r": 4, "lora_alpha": 24, "lora_dropout": 0.25, "target_modules": ["q_proj", "v_proj"]}
    root = make_root(checkpoint_steps=(1,), parameters=parameters)
    train(root)
    config = json.loads((root.checkpoint(1) / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (4, 24, 0.25)
    assert sorted(config["target_modules"]) == ["q_proj", "v_proj"]


def test_seed_determines_row_order_initial_adapter_and_losses(make_root, tiny_model, monkeypatch):
    orders, adapters, seeds, losses = [], [], [], []
    make_dataset = train_role.training_dataset

    def make_and_remember(*args: Any, **options: Any) -> Any:
        made = make_dataset(*args, **options)
        orders.append(made["input_ids"])
        return made

    monkeypatch.setattr(train_role, "training_dataset", make_and_remember)
    for seed in (1, 2, 1):
        root = make_root(checkpoint_steps=(2,), parameters={"seed": seed})
        context = root.context()
        stage = context.plan.stages[0]
        base = load_base(tiny_model, "float32", CPU)
        model = trainable(base, context.plan.model, stage.parameters)
        adapters.append(torch.cat([p.flatten() for p in model.parameters() if p.requires_grad]).tolist())
        seeds.append(train_role.trainer_arguments(stage, CPU, root.path).seed)
        losses.append([line["loss"] for line in train(root)])
    for first, other, again in (orders, adapters, losses):
        assert first == again
        assert first != other
    assert seeds == [1, 2, 1], "what dropout is drawn by"


PLAIN = {"optim": "adamw_torch", "adam_beta1": 0.9, "adam_beta2": 0.999, "adam_epsilon": 1e-8}


@pytest.fixture(scope="module")
def usual_losses(tiny_model, tmp_path_factory) -> list[float]:
    """The losses of a stage with the usual arguments."""
    root = TrainerRoot(tmp_path_factory.mktemp("usual"), parameters=PLAIN).write(tiny_model)
    train(root)
    return root.losses()


@pytest.mark.parametrize(
    "changed",
    [
        {"adam_beta1": 0.5},
        {"optim": "adafactor"},
        pytest.param({"adam_beta2": 0.5}, marks=pytest.mark.slow),
        pytest.param({"adam_epsilon": 0.01}, marks=pytest.mark.slow),
        pytest.param({"optim": "adamw_torch_fused"}, marks=pytest.mark.slow),
        pytest.param({"weight_decay": 10.0}, marks=pytest.mark.slow),
        pytest.param({"max_grad_norm": 0.01, "adam_epsilon": 0.01}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_each_trainer_argument_takes_effect_also_after_resume(make_root, at_step, usual_losses, changed):
    whole, root = (make_root(parameters=PLAIN | changed) for _ in range(2))
    train(whole)
    if changed == {"optim": "adamw_torch_fused"}:  # the same arithmetic in another order
        args = train_role.trainer_arguments(whole.context().plan.stages[0], CPU, whole.path)
        assert args.optim == "adamw_torch_fused"
        assert whole.losses() == pytest.approx(usual_losses, rel=1e-4)
    else:
        assert whole.losses()[2:] != pytest.approx(usual_losses[2:], rel=1e-4)
    interruption = Interruption()
    at_step(4, interruption.request)
    with pytest.raises(Interrupted):
        train_role.run(root.context(interruption=interruption))
    train(root)
    assert root.losses() == whole.losses()
    assert root.evaluation(6).digest == whole.evaluation(6).digest


def test_plan_without_optimizer_fields_trains_with_adamw_defaults(make_root):
    old, new = make_root(checkpoint_steps=(2,)), make_root(checkpoint_steps=(2,), parameters=PLAIN)
    train(old)
    train(new)
    assert old.evaluation(2).digest == new.evaluation(2).digest


def test_interruption_with_gradient_accumulation_changes_no_results(make_root, at_step):
    whole, root = (make_root(parameters={"batch_size": 4, "pass_tokens": 84}) for _ in range(2))
    train(whole)
    interruption = Interruption()
    at_step(4, interruption.request)
    with pytest.raises(Interrupted):
        train_role.run(root.context(interruption=interruption))
    assert root.evaluated_steps() == [0, 3]
    train(root)
    assert root.losses() == whole.losses()
    assert root.evaluation(6).digest == whole.evaluation(6).digest
