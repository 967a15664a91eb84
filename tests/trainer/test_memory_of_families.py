"""The estimate of activations and of the cache, compared with the tensors of small models of each family."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import DynamicCache

from support.published_models import GLM_4_5_AIR, GPT_OSS_20B, LLAMA_4_SCOUT, PUBLISHED_MODELS, Published
from support.random_models import EXAMPLES
from support.tensor_memory import measure_generation, model_plan, saved_tensors
from support.trainer_root import stage_plan
from tunegate_api.contract.plan import TrainingParameters
from tunegate_api.contract.shapes import GenerationBatch, Pass
from tunegate_api.memory.block import Block
from tunegate_trainer.models.loading import load_base
from tunegate_trainer.models.shape import model_shape
from tunegate_trainer.models.targets import with_targets
from tunegate_trainer.tokens.examples import example
from tunegate_trainer.tokens.likelihood import flatten, token_losses
from tunegate_trainer.train.start import Start, load_start, trainable

CPU = torch.device("cpu")
LORA: dict[str, Any] = {"lora_r": 8, "lora_dropout": 0.0}
pytestmark = pytest.mark.model


@pytest.fixture(params=PUBLISHED_MODELS, ids=lambda model: model.id)
def model(request) -> Published:
    return request.param


@pytest.fixture
def small(model: Published, tmp_path) -> Path:
    """A small model of the family with random weights."""
    torch.manual_seed(0)
    config = getattr(transformers, model.config)(**(model.settings | model.small))
    folder = tmp_path / "small"
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def planned(folder: Path, dtype: str, *names: str) -> TrainingParameters:
    stage = stage_plan("sft", **LORA, dtype=dtype, target_modules=[*names] or ["all-linear"])
    (stage,) = with_targets(folder, [stage])
    return stage.parameters


def block_of(folder: Path, parameters: TrainingParameters, largest: Pass) -> Block:
    shape = model_shape(folder)
    assert shape is not None
    return Block(shape, parameters, largest, "CPU")


@pytest.mark.parametrize("names", [(), ("q_proj", "experts.gate_up_proj", "experts.down_proj")])
@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float32", marks=pytest.mark.slow)])
def test_estimate_is_within_ten_percent_of_kept_activations(small, dtype, names) -> None:
    shape = model_shape(small)
    assert shape is not None
    if shape.experts is None:
        names = ()
    check_kept_activations(small, planned(small, dtype, *names))


@pytest.mark.parametrize("model", [GLM_4_5_AIR], ids=["glm-4.5-air"], indirect=True)
def test_estimate_has_the_changed_weights_of_shared_experts(small) -> None:
    parameters = planned(small, "bfloat16")
    assert any(name.endswith(".weight") for name in parameters.target_modules or [])
    check_kept_activations(small, parameters)


@pytest.mark.parametrize("model", [LLAMA_4_SCOUT], ids=["llama-4-scout"], indirect=True)
def test_estimate_has_the_values_of_experts_that_compute_every_token(small) -> None:
    check_kept_activations(small, planned(small, "bfloat16"))


def check_kept_activations(small: Path, parameters: TrainingParameters) -> None:
    shape = model_shape(small)
    assert shape is not None
    tuned = load_start(Start(small, "d" * 64), parameters, CPU, EXAMPLES)
    tuned = trainable(tuned, model_plan(), parameters).train()
    one = example([5] * 300, [9, 9])
    kept = saved_tensors(tuned, lambda: token_losses(tuned, flatten([one])).losses)
    largest = Pass.of([len(one["input_ids"])], 2)
    block = Block(shape, parameters, largest, "CPU")
    assert shape.layers * block.saved + block.ends == pytest.approx(kept, rel=0.1)


@pytest.mark.parametrize("longest", [20, 100])
def test_estimate_of_the_cache_is_that_of_its_tensors(small, longest) -> None:
    plain = load_base(small, "float32", CPU)
    cache = DynamicCache(config=plain.config)
    tokens = torch.ones(3, longest, dtype=torch.long)
    with torch.inference_mode():
        plain(input_ids=tokens, cache=cache, use_cache=True)
        plain(input_ids=tokens[:, :5], cache=cache, use_cache=True)
    layers = [layer for layer in cache.layers if layer.keys is not None]
    kept = sum(t.nbytes for layer in layers for t in (layer.keys, layer.values))
    batch = GenerationBatch(prompts=3, longest=longest, new_tokens=5)
    block = block_of(small, planned(small, "float32"), Pass.of([1], 1))
    assert block.cache(batch) == kept


@pytest.mark.slow
@pytest.mark.parametrize(("longest", "new_tokens"), [(100, 20), (20, 100)])
def test_estimate_is_within_fifteen_percent_of_evaluation_memory(small, longest, new_tokens) -> None:
    parameters = planned(small, "float32")
    batch = GenerationBatch(prompts=8, longest=longest, new_tokens=new_tokens)
    settings = parameters.model_dump(include={"lora_r", "lora_dropout", "dtype", "target_modules"})
    allocated = measure_generation(small, batch, **settings)
    estimated = block_of(small, parameters, Pass.of([1], 1)).generating(batch)
    assert estimated == pytest.approx(allocated, rel=0.15)


def test_sliding_windows_limit_the_cache(tmp_path) -> None:
    shape = model_shape(GPT_OSS_20B.save(tmp_path))
    assert shape is not None
    assert (shape.windowed_layers, shape.window) == (12, 128)
