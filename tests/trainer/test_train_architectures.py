"""Models that are no Llama: mixtures of experts, and those that cannot be trained on packed examples."""

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Lfm2Config,
    OPTConfig,
    PreTrainedConfig,
    Qwen3MoeConfig,
)
from trl.trainer.sft_trainer import SFTTrainer

from support.tiny_model import make_tokenizer
from support.trainer_root import ALL_WEIGHTS, TrainerRoot, rows
from tunegate_api.contract import Outcome
from tunegate_trainer.chat import load_tokenizer
from tunegate_trainer.data.models import model_length
from tunegate_trainer.errors import UserError
from tunegate_trainer.examples import tokenize_rows
from tunegate_trainer.interruption import Interruption
from tunegate_trainer.model import load_base
from tunegate_trainer.train import recipe
from tunegate_trainer.train.dataset import training_dataset
from tunegate_trainer.train.packing import check_apart
from tunegate_trainer.train.trainer import CompletionTrainer

CPU = torch.device("cpu")
SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def save(folder: Path, config_class: type[PreTrainedConfig], **settings: object) -> Path:
    """A random model of an architecture, with its tokenizer."""
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    config = config_class(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **SMALL,
        **settings,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def mixture(tmp_path) -> Path:
    return save(
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


def test_the_loss_of_a_mixture_of_experts_is_trls_with_its_balance(mixture, make_root):
    root: TrainerRoot = make_root(model=mixture, parameters=ALL_WEIGHTS)
    stage, plan = root.context().plan.stages[0], root.context().plan
    tokenizer = load_tokenizer(mixture)
    trainer = CompletionTrainer(
        model=load_base(mixture, "float32", CPU),
        args=recipe.trainer_arguments(stage, plan, CPU, root.path / "scratch"),
        train_dataset=training_dataset(
            tokenize_rows(tokenizer, rows("train", 8), 128), steps=6, batch_size=4, seed=1
        ),
        processing_class=tokenizer,
    )
    trainer.current_gradient_accumulation_steps = 1  # which a training loop would say
    losses = {}
    for name, of in {"ours": CompletionTrainer, "theirs": SFTTrainer}.items():
        batch = next(iter(trainer.get_train_dataloader()))
        losses[name] = of.compute_loss(trainer, trainer.model, batch, num_items_in_batch=40).item()
    assert losses["ours"] == pytest.approx(losses["theirs"], rel=1e-5)
    trainer.router_aux_loss_coef = 0.0
    batch = next(iter(trainer.get_train_dataloader()))
    alone = trainer.compute_loss(trainer.model, batch, num_items_in_batch=40).item()
    assert losses["ours"] - alone > 0.1, "four experts cannot be balanced better than 1"


def test_a_mixture_of_experts_is_trained_evaluated_and_judged(mixture, make_root, judge):
    root: TrainerRoot = make_root(model=mixture, checkpoint_steps=(2, 4), parameters=ALL_WEIGHTS)
    assert recipe.run(root.context(), Interruption()) is Outcome.COMPLETED
    assert root.losses()[-1] < root.losses()[0]
    assert root.evaluated_steps() == [0, 2, 4]
    result = judge(root, 4)
    assert result.evaluations[1].outcomes["golden/orders"] == root.evaluation(4).outcomes["golden/orders"]
    config = json.loads((root.workspace / root.paths.model / "config.json").read_text())
    assert not config.get("output_router_logits"), "as in the model it started from"


def test_a_model_that_keeps_examples_apart_passes(tiny_model):
    check_apart(load_base(tiny_model, "float32", CPU))
    check_apart(load_base(tiny_model, "bfloat16", CPU))


def test_a_model_whose_examples_would_see_each_other_is_refused(tmp_path):
    """Its attention knows positions by how many tokens were before, not by where an example begins."""
    folder = save(tmp_path / "opt", OPTConfig, ffn_dim=64, word_embed_proj_dim=64, init_std=0.5)
    model = load_base(folder, "float32", CPU)
    with pytest.raises(UserError, match="a opt model does not keep examples of one pass apart"):
        check_apart(model)


def test_a_model_that_needs_a_library_to_keep_them_apart_is_refused_by_its_name(tmp_path):
    folder = save(
        tmp_path / "lfm2", Lfm2Config, layer_types=["conv", "full_attention"], num_key_value_heads=2
    )
    with pytest.raises(UserError, match=r"apart here: .*causal.conv1d") as raised:
        check_apart(load_base(folder, "float32", CPU))
    assert "add it to the trainer's image" in raised.value.hint


def test_an_architecture_without_such_attention_is_refused_with_the_data(tmp_path):
    folder = save(tmp_path / "bloom", BloomConfig)
    with pytest.raises(UserError, match="bloom models have no scaled dot-product attention"):
        model_length(folder)
