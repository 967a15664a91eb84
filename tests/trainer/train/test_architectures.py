"""Other architectures than Llama: mixtures of experts, and models that do not keep packed examples apart."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import (
    BloomConfig,
    DeepseekV3Config,
    Gemma2Config,
    GraniteMoeHybridConfig,
    Lfm2Config,
    OPTConfig,
    Qwen3MoeConfig,
)
from trl.trainer.sft_trainer import SFTTrainer

from support.family_settings import ATTENTION, LATENT, ROUTED
from support.random_models import ROWS, save_random_model
from support.trainer_root import ALL_WEIGHTS, TrainerRoot, dpo_plan, rows, stage_plan
from tunegate_api.contract.process import Outcome
from tunegate_trainer.models.loading import load_base
from tunegate_trainer.models.resolve import model_length
from tunegate_trainer.models.targets import with_targets
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.roles import train as train_role
from tunegate_trainer.tokens.chat import load_tokenizer
from tunegate_trainer.tokens.examples import tokenize_rows
from tunegate_trainer.tokens.likelihood import compute_singly, flatten, token_losses
from tunegate_trainer.train.dataset import training_dataset
from tunegate_trainer.train.packing import isolates_examples
from tunegate_trainer.train.start import trainable
from tunegate_trainer.train.trainer import CompletionTrainer

CPU = torch.device("cpu")
PEFT_WARNS = pytest.mark.filterwarnings("ignore:The following .* did not match any targeted module")
"""PEFT warns about a pattern for the experts' tensors that matches nothing."""


@pytest.fixture
def mixture(tmp_path) -> Path:
    return save_random_model(
        tmp_path / "mixture",
        Qwen3MoeConfig,
        intermediate_size=64,
        moe_intermediate_size=32,
        num_key_value_heads=2,
        head_dim=16,
        num_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=512,
        router_aux_loss_coef=0.1,
    )


def make_trainer(folder: Path, root: TrainerRoot) -> CompletionTrainer:
    stage, plan = root.context().plan.stages[0], root.context().plan
    tokenizer = load_tokenizer(folder)
    return CompletionTrainer(
        model=trainable(load_base(folder, "float32", CPU), plan.model, stage.parameters),
        pass_tokens=stage.parameters.pass_tokens,
        args=train_role.trainer_arguments(stage, CPU, root.path / "scratch"),
        train_dataset=training_dataset(
            tokenize_rows(tokenizer, rows("train", 8), 128), steps=6, batch_size=4, seed=1
        ),
        processing_class=tokenizer,
    )


@PEFT_WARNS
@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("parameters", [ALL_WEIGHTS, {"lora_dropout": 0.0}], ids=["all weights", "LoRA"])
def test_mixture_of_experts_loss_with_load_balancing_matches_trl(mixture, make_root, parameters, passes):
    root = make_root(model=mixture, parameters=parameters)
    trainer = make_trainer(mixture, root)
    trainer.current_gradient_accumulation_steps = passes

    def loss(of: type[SFTTrainer] = CompletionTrainer) -> float:
        batch = next(iter(trainer.get_train_dataloader()))
        return of.compute_loss(trainer, trainer.model, batch, num_items_in_batch=40).item()

    whole = loss()
    assert whole == pytest.approx(loss(SFTTrainer), rel=1e-5)
    trainer.router_aux_loss_coef = 0.0
    assert whole - loss() > 0.1 / passes, "four experts cannot be balanced better than 1"


@PEFT_WARNS
def test_dpo_includes_the_load_balancing_loss(mixture, make_root):
    root = make_root(
        model=mixture,
        checkpoint_steps=(2,),
        parameters={"lora_dropout": 0.0},
        later=[dpo_plan(checkpoint_steps=(2,))],
    )
    assert train_role.run(root.context()) is Outcome.COMPLETED
    assert train_role.run(root.context(stage="dpo", start_step=2)) is Outcome.COMPLETED
    first = root.losses("dpo")[0]
    assert first - math.log(2) > 0.1, "no difference to the reference, and the balance"


def resolved(folder: Path, *names: str) -> dict[str, Any]:
    """Return the parameters of an adapter on ``names``, as the data role resolves them."""
    (stage,) = with_targets(
        folder, [stage_plan("sft", lora_dropout=0.0, target_modules=[*names] or ["all-linear"])]
    )
    return stage.parameters.model_dump(include={"lora_dropout", "target_modules"})


@pytest.mark.parametrize("merged", [False, True], ids=["adapter", "merged"])
@pytest.mark.parametrize("names", [(), (*ATTENTION, "experts.gate_up_proj", "experts.down_proj")])
def test_adapter_of_mixture_of_experts_is_trained_and_judged(mixture, make_root, judge, names, merged):
    root: TrainerRoot = make_root(
        model=mixture,
        checkpoint_steps=(2, 4),
        parameters=resolved(mixture, *names),
        spec={"artifact": {"form": "Merged" if merged else "Adapter"}},
    )
    assert train_role.run(root.context()) is Outcome.COMPLETED
    trained = load_file(root.checkpoint(4) / "adapter_model.safetensors")
    assert any(".experts." in name for name in trained) is bool(names), "experts only on request"
    result = judge(root, 4)
    assert result.evaluations[1].outcomes["golden/orders"] == root.evaluation(4).outcomes["golden/orders"]


def test_adapter_of_shared_experts_is_loaded_by_plain_peft(tmp_path, make_root, judge):
    """PEFT takes their names for those of routed experts, if the adapter names layers and not weights."""
    latent = {name: size for name, size in LATENT.items() if size is not None}
    folder = save_random_model(
        tmp_path / "deepseek", DeepseekV3Config, intermediate_size=64, **ROUTED, **latent
    )
    root: TrainerRoot = make_root(model=folder, checkpoint_steps=(2,), parameters=resolved(folder))
    assert train_role.run(root.context()) is Outcome.COMPLETED
    trained = load_file(root.checkpoint(2) / "adapter_model.safetensors")
    assert any(".shared_experts.down_proj." in name and tensor.any() for name, tensor in trained.items())
    assert not any(".experts." in name for name in trained)
    tuned = PeftModel.from_pretrained(load_base(folder, "float32", CPU), str(root.checkpoint(2)))
    loaded = get_peft_model_state_dict(tuned, save_embedding_layers=False)
    assert {name: tensor.tolist() for name, tensor in loaded.items()} == {
        name: tensor.tolist() for name, tensor in trained.items()
    }
    result = judge(root, 2)
    assert result.evaluations[1].outcomes["golden/orders"] == root.evaluation(2).outcomes["golden/orders"]


def test_mixture_of_experts_is_trained_evaluated_and_judged(mixture, make_root, judge):
    root: TrainerRoot = make_root(model=mixture, checkpoint_steps=(2, 4), parameters=ALL_WEIGHTS)
    assert train_role.run(root.context()) is Outcome.COMPLETED
    assert root.losses()[-1] < root.losses()[0]
    assert root.evaluated_steps() == [0, 2, 4]
    result = judge(root, 4)
    assert result.evaluations[1].outcomes["golden/orders"] == root.evaluation(4).outcomes["golden/orders"]
    config = json.loads((root.workspace / root.paths.model / "config.json").read_text())
    assert not config.get("output_router_logits"), "as in the model it started from"


def test_moe_architecture_without_experts_has_no_balance_loss(tmp_path, make_root):
    folder = save_random_model(
        tmp_path / "dense",
        GraniteMoeHybridConfig,
        intermediate_size=64,
        shared_intermediate_size=64,
        num_key_value_heads=2,
        num_local_experts=0,
        num_experts_per_tok=0,
        layer_types=["attention", "attention"],
        position_embedding_type="rope",
    )
    root = make_root(model=folder, checkpoint_steps=(2,), parameters=ALL_WEIGHTS)
    assert train_role.run(root.context()) is Outcome.COMPLETED


def test_model_without_sdpa_is_trained_with_eager_attention(tmp_path, make_root, judge):
    folder = save_random_model(
        tmp_path / "gemma2", Gemma2Config, intermediate_size=64, num_key_value_heads=2, head_dim=16
    )
    root: TrainerRoot = make_root(model=folder, checkpoint_steps=(2,), parameters=ALL_WEIGHTS)
    assert train_role.run(root.context()) is Outcome.COMPLETED
    result = judge(root, 2)
    assert result.evaluations[1].outcomes["golden/orders"] == root.evaluation(2).outcomes["golden/orders"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_isolation_check_of_packed_examples_keeps_mode_and_random_state(tiny_model, mixture, dtype):
    for folder in (tiny_model, mixture):
        model = load_base(folder, dtype, CPU).train()
        random_state = torch.get_rng_state()
        assert isolates_examples(model, ROWS)
        assert model.training
        assert torch.equal(torch.get_rng_state(), random_state)


@pytest.fixture
def opt(tmp_path) -> Path:
    """OPT computes positions from the number of earlier tokens in the row, and ignores where an example
    starts."""
    return save_random_model(
        tmp_path / "opt", OPTConfig, ffn_dim=64, word_embed_proj_dim=64, init_std=0.5, dropout=0.0
    )


@pytest.fixture
def lfm2(tmp_path) -> Path:
    """LFM2's convolutions keep packed examples apart only with a library that is not installed."""
    layers = {"layer_types": ["conv", "full_attention"], "num_key_value_heads": 2}
    return save_random_model(tmp_path / "lfm2", Lfm2Config, **layers)


@pytest.mark.slow
def test_examples_that_affect_each_other_get_separate_passes(lfm2, make_root, judge, caplog):
    root: TrainerRoot = make_root(model=lfm2, checkpoint_steps=(2, 4), parameters={"lora_dropout": 0.0})
    assert train_role.run(root.context()) is Outcome.COMPLETED
    assert "the lfm2 model does not keep packed examples apart" in caplog.text
    assert "Install `causal_conv1d`" in caplog.text
    assert root.losses()[-1] < root.losses()[0]
    result = judge(root, 4)
    assert result.evaluations[1].outcomes["golden/orders"] == root.evaluation(4).outcomes["golden/orders"]


def test_model_whose_examples_affect_each_other_is_detected_by_losses(opt, caplog):
    assert not isolates_examples(load_base(opt, "float32", CPU), ROWS)
    assert "an example's loss changes by" in caplog.text


def test_separate_passes_give_the_same_losses_as_a_packed_pass(tiny_model):
    examples = tokenize_rows(load_tokenizer(tiny_model), rows("train", 3), 128)
    model = load_base(tiny_model, "float32", CPU)
    packed = token_losses(model, flatten(examples))
    compute_singly(model)
    single = token_losses(model, flatten(examples))
    assert torch.equal(single.examples, packed.examples)
    torch.testing.assert_close(single.losses, packed.losses)


def test_unsupported_architecture_is_refused_by_the_data_role(tmp_path):
    folder = save_random_model(tmp_path / "bloom", BloomConfig)
    with pytest.raises(UserError, match="the attention of bloom models"):
        model_length(folder)
