"""A GPU trains float32 weights, of a model or of an adapter, in bfloat16. The tests use autocast on the
CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from peft.helpers import disable_input_dtype_casting
from safetensors.torch import load_file
from torch.nn.modules.module import register_module_forward_hook

from support.trainer_root import ALL_WEIGHTS, TrainerRoot, dpo_plan
from tunegate_api.contract.process import Outcome
from tunegate_trainer.evaluate.baselines import BaselineCache
from tunegate_trainer.evaluate.golden_sets import golden_sets
from tunegate_trainer.models.loading import load_base
from tunegate_trainer.roles import train as train_role
from tunegate_trainer.tokens.chat import load_tokenizer
from tunegate_trainer.train import overrides, preference, start

CPU = torch.device("cpu")
TRAINING, EVALUATION = True, False
Computed = set[tuple[bool, torch.dtype]]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Computed]:
    """The computations of MLPs: each in training or evaluation, and in which dtype."""

    @contextmanager
    def training(model: Any) -> Iterator[None]:
        with torch.autocast("cpu", torch.bfloat16), disable_input_dtype_casting(model):
            yield

    def evaluation(_: torch.device, *, whole: bool) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=whole)

    monkeypatch.setattr(start, "can_share", lambda *_: False)  # it compares layers with float32 first
    for module in (preference, start, overrides):
        monkeypatch.setattr(module, "training_precision", training)
    monkeypatch.setattr(overrides, "adapter_precision", disable_input_dtype_casting)
    for module in (train_role, start):
        monkeypatch.setattr(module, "evaluation_precision", evaluation)
    found: Computed = set()

    def note(module: torch.nn.Module, _: object, output: object) -> None:
        if type(module) is torch.nn.Linear and isinstance(output, torch.Tensor):
            found.add((torch.is_grad_enabled(), output.dtype))

    watching = register_module_forward_hook(note)
    yield found
    watching.remove()


def train(root: TrainerRoot, stage: str = "sft", start_step: int | None = None) -> None:
    done = train_role.run(root.context(stage=stage, start_step=start_step))
    assert done is Outcome.COMPLETED


def test_full_fine_tuning_trains_and_evaluates_in_mixed_precision(make_root, computed):
    train(make_root(parameters=ALL_WEIGHTS))
    assert computed == {(TRAINING, torch.bfloat16), (EVALUATION, torch.bfloat16)}


@pytest.mark.usefixtures("computed")
def test_recomputed_adapter_with_dropout_has_the_same_losses(make_root):
    kept, recomputed = (
        make_root(parameters={"dtype": "bfloat16"}, activation_checkpointing=recomputes)
        for recomputes in (False, True)
    )
    train(kept)
    train(recomputed)
    assert kept.context().plan.stages[0].parameters.lora_dropout
    assert recomputed.losses() == kept.losses()


def test_evaluation_precision_can_be_set_by_the_job(make_root, computed):
    train(make_root(parameters=ALL_WEIGHTS, spec={"evaluation": {"precision": "Float32"}}))
    assert (TRAINING, torch.bfloat16) in computed
    assert (EVALUATION, torch.float32) in computed


def test_dpo_reference_is_computed_in_mixed_precision(make_root, computed):
    root = make_root(parameters=ALL_WEIGHTS, later=[dpo_plan(**ALL_WEIGHTS, starts_from="Merged")])
    train(root)
    computed.clear()
    train(root, "dpo", start_step=6)
    assert computed == {(TRAINING, torch.bfloat16), (EVALUATION, torch.bfloat16)}


def test_adapter_is_trained_in_bfloat16_and_evaluated_in_its_dtypes(make_root, computed):
    root = make_root()
    train(root)
    assert (EVALUATION, torch.float32) in computed
    assert {dtype for training, dtype in computed if training} == {torch.bfloat16}
    adapter = load_file(root.stage_folder / "step-000006" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in adapter.values()} == {torch.float32}


def test_losses_of_an_adapter_in_bfloat16_are_those_in_float32(make_root, make_trained_root, request):
    expected = make_trained_root().losses()
    request.getfixturevalue("computed")  # only from here on
    root = make_root()
    train(root)
    assert root.losses() != expected
    assert root.losses() == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(("precision", "measured"), [("Auto", 2), ("Float32", 1)])
def test_base_evaluation_is_reused_only_in_same_precision(make_root, tiny_model, precision, measured):
    context = make_root(spec={"evaluation": {"precision": precision}}).context()
    tokenizer, model = load_tokenizer(tiny_model), load_base(tiny_model, "float32", CPU)
    sets = golden_sets(context, tokenizer, context.request.final_gates)
    cache = BaselineCache(context, context.plan.model.digest, "float32", CPU)
    cache.evaluate(model, tokenizer, sets)
    with torch.autocast("cpu", torch.bfloat16):
        cache.evaluate(model, tokenizer, sets)
    folder = context.workspace / context.paths.baselines
    assert len(list(folder.iterdir())) == measured
