"""Training of each model family, compared with plain transformers. docs/families.md is written from the same
table."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from support.each_family import each_trained_family
from support.eager_reference import batch_loss, completion_loss, eager_model, gradient_norm
from support.families import REFUSED
from support.family import Family
from support.random_models import save_family, set_dropout
from support.trainer_root import (
    ALL_WEIGHTS,
    STAGE,
    TrainerRoot,
    data_root,
    dpo_plan,
    gate_spec,
    golden_cases,
    stage_plan,
)
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Outcome, Role
from tunegate_api.contract.workspace import PAIRS_PREFIX
from tunegate_api.v1alpha2.stages import Stage
from tunegate_trainer.main import main
from tunegate_trainer.models.matching_weights import check_matching_weights
from tunegate_trainer.models.resolve import model_length
from tunegate_trainer.models.shape import model_shape
from tunegate_trainer.models.target_modules import check_target_modules
from tunegate_trainer.models.targets import with_targets
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.roles import train as train_role
from tunegate_trainer.tokens.chat import load_tokenizer
from tunegate_trainer.tokens.examples import tokenize_pairs, tokenize_rows
from tunegate_trainer.tokens.rows import read_pairs, read_rows
from tunegate_trainer.train.dataset import training_order
from tunegate_trainer.train.preference import REFERENCE
from tunegate_trainer.train.start import trainable

pytestmark = [
    pytest.mark.model,
    # PEFT warns about a pattern for experts that matches nothing, and that it noticed a transposed layer.
    pytest.mark.filterwarnings("ignore:The following .* did not match any targeted module"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False"),
]
ROUNDING = 32 * torch.finfo(torch.float32).eps
"""Largest relative difference of two losses or norms that differ only by the order of their sums. Sums over
64 hidden sizes and 300 tokens of the vocabulary in two layers differed by at most 5 epsilon."""
DPO: dict[str, Any] = dpo_plan().parameters.model_dump(exclude_defaults=True)


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., TrainerRoot]:
    """Return a function that trains one step of a model, as the train role does."""

    def one_step(family: Family, folder: Path, parameters: dict[str, Any]) -> TrainerRoot:
        if parameters.get("adapter") != "None":
            parameters = parameters | {"target_modules": [*family.targets] or ["all-linear"]}
        (stage,) = with_targets(folder, [stage_plan(STAGE, (1,), **parameters)])
        resolved = stage.parameters.model_dump(include={"target_modules", "excluded_modules"})
        root = TrainerRoot(
            tmp_path / "root",
            checkpoint_steps=(1,),
            gates={"orders": gate_spec(golden_cases(2))},
            parameters=parameters | resolved,
        ).write(folder)
        assert train_role.run(root.context()) is Outcome.COMPLETED
        return root

    return one_step


@each_trained_family
@pytest.mark.parametrize("parameters", [{"lora_dropout": 0.0}, ALL_WEIGHTS], ids=["LoRA", "all weights"])
def test_first_loss_and_gradient_equal_those_of_plain_transformers(family, train, tmp_path, parameters):
    folder = save_family(tmp_path / "model", family)
    root = train(family, folder, parameters)
    plan = root.context().plan
    stage = plan.stages[0].parameters
    examples = tokenize_rows(load_tokenizer(folder), read_rows(root.data / "train.jsonl"), stage.max_length)
    batch = [examples[i] for i in training_order(len(examples), stage.batch_size, stage.seed)]
    reference = trainable(eager_model(folder), plan.model, stage).eval()
    loss = batch_loss(reference, batch)
    loss.backward()
    (line,) = root.loss_lines()
    assert line["loss"] == pytest.approx(loss.item(), rel=ROUNDING)
    assert line["grad_norm"] == pytest.approx(gradient_norm(reference), rel=ROUNDING)


@each_trained_family
def test_dpo_starts_at_ln_2_whatever_the_dropout(family, train, tmp_path):
    folder = save_family(tmp_path / "model", family)
    with_dropout = Path(shutil.copytree(folder, tmp_path / "with-dropout"))
    set_dropout(with_dropout, 0.3)
    root = train(family, with_dropout, DPO)
    assert root.losses() == [pytest.approx(math.log(2), rel=ROUNDING)]
    stored = json.loads((root.stage_folder / REFERENCE).read_text())["log_probs"]
    pairs = tokenize_pairs(load_tokenizer(folder), read_pairs(root.data / f"{PAIRS_PREFIX}train.jsonl"), 128)
    plain = eager_model(folder)
    with torch.no_grad():
        for found, pair in list(zip(stored, pairs, strict=True))[:4]:
            expected = [-completion_loss(plain, one).item() for one in pair]
            assert found == pytest.approx(expected, rel=ROUNDING)


@each_trained_family
def test_data_role_accepts_weights_and_refuses_what_lora_lacks(family, tmp_path):
    folder = save_family(tmp_path / "model", family)
    check_matching_weights(folder)
    if family.targets:
        with pytest.raises(UserError, match=r"all-linear includes .*, which LoRA does not support"):
            check_target_modules(folder, [with_adapter()])
    check_target_modules(folder, [with_adapter(*family.targets)])
    assert model_length(folder) == 512
    model_shape(folder)  # raises no error, although a configuration may lack sizes


def with_adapter(*names: str) -> Stage:
    adapter = {"type": "LoRA"} | ({"targetModules": list(names)} if names else {})
    return Stage.model_validate({"name": STAGE, "method": "SFT", "adapter": adapter, "training": {}})


@pytest.mark.slow
@pytest.mark.parametrize("family", REFUSED, ids=lambda family: family.id)
def test_unsupported_model_or_job_is_refused_by_the_data_role(family, tmp_path, monkeypatch):
    root = data_root(save_family(tmp_path / "model", family), tmp_path / "root", **family.stage)
    monkeypatch.setenv(ROOT_VARIABLE, str(root.path))
    assert main(["data"]) == ExitCode.USER_ERROR
    failure = root.report(Role.DATA).failure
    assert family.refused in failure.message
    assert family.remedy in failure.hint
