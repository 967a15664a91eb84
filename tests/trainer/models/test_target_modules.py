"""``adapter.targetModules`` is checked before training."""

import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tunegate_api.v1alpha2.stages import Stage
from tunegate_trainer.models.target_modules import check_target_modules, layer_names
from tunegate_trainer.process.errors import UserError

LAYERS = "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"


def stage(*names: str) -> Stage:
    adapter = {"type": "LoRA", "targetModules": list(names)}
    return Stage.model_validate({"name": "sft", "method": "SFT", "adapter": adapter, "training": {}})


@pytest.mark.parametrize(
    "names",
    [
        ["all-linear"],
        ["q_proj"],
        ["q_proj", "v_proj"],
        ["self_attn.q_proj"],
        ["model.layers.1.mlp.down_proj"],
    ],
)
def test_target_modules_accept_names_of_layers(tiny_model, names):
    check_target_modules(tiny_model, [stage(*names)])


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["q_proj", "v_porj"], "the model has no layer v_porj"),
        (["proj"], "the model has no layer proj"),
        (["model.layers.2.mlp.down_proj"], "the model has no layer model.layers.2.mlp.down_proj"),
        (["q_proj", "lm_head"], "lm_head is the output head, which cannot have an adapter"),
        (
            ["embed_tokens"],
            "embed_tokens shares its weights with the output head, which cannot have an adapter",
        ),
        (["self_attn"], "self_attn is a LlamaAttention, which LoRA does not support"),
        (["all-linear", "q_proj"], "all-linear cannot be combined with names"),
        (
            ["x", "lm_head"],
            "the model has no layer x; lm_head is the output head, which cannot have an adapter",
        ),
    ],
)
def test_invalid_target_module_is_refused_with_the_valid_names(tiny_model, names, problem):
    with pytest.raises(UserError) as raised:
        check_target_modules(tiny_model, [stage("q_proj"), stage(*names)])
    assert str(raised.value) == f"stage sft: adapter.targetModules: {problem}"
    assert (
        raised.value.hint == f"the model's layers are: {LAYERS}; use all-linear alone for every linear layer"
    )


def test_untied_embedding_may_have_an_adapter(tiny_model, tmp_path):
    config = json.loads((tiny_model / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    check_target_modules(tmp_path, [stage("q_proj", "embed_tokens")])


def test_target_modules_are_checked_without_weights(tiny_model, tmp_path):
    (tmp_path / "config.json").write_bytes((tiny_model / "config.json").read_bytes())
    check_target_modules(tmp_path, [stage("q_proj")])


def test_conv1d_layers_may_have_an_adapter():
    config = AutoConfig.for_model("gpt2", n_layer=1, n_embd=8, n_head=2, vocab_size=16)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert layer_names(model) == ["c_attn", "c_fc", "c_proj", "wpe"]
