"""The sizes of published models, compared with the PEFT model that training creates."""

from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel

from support.families import FAMILIES
from support.family import Family
from support.published_models import ATTENTION, PUBLISHED_MODELS, QWEN3_30B_A3B, Published, adapted
from support.random_models import save_family_config
from support.trainer_root import stage_plan
from tunegate_api.contract.plan import StagePlan
from tunegate_api.contract.shapes import ModelShape, Pass
from tunegate_api.memory.block import Block
from tunegate_trainer.models.shape import model_shape
from tunegate_trainer.models.target_modules import skeleton
from tunegate_trainer.models.targets import with_targets

LORA: dict[str, Any] = {"lora_r": 16, "lora_dropout": 0.0, "dtype": "bfloat16"}
EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]
ADAPTERS = [
    *(pytest.param(model, ["all-linear"], id=model.id) for model in PUBLISHED_MODELS),
    *(
        pytest.param(model, [*ATTENTION, *EXPERTS], id=f"{model.id} with experts")
        for model in PUBLISHED_MODELS
        if model.layers == ATTENTION
    ),
]
each_published_model = pytest.mark.parametrize("model", PUBLISHED_MODELS, ids=lambda model: model.id)


def planned(folder: Path, **changes: Any) -> StagePlan:
    (stage,) = with_targets(folder, [stage_plan("sft", **(LORA | changes))])
    return stage


def shape_of(folder: Path) -> ModelShape:
    shape = model_shape(folder)
    assert shape is not None
    return shape


@each_published_model
def test_parameters_are_those_that_are_published(model: Published, tmp_path):
    shape = shape_of(model.save(tmp_path))
    digits = len(str(model.billions).partition(".")[2])
    assert round(shape.parameters / 1e9, digits) == model.billions


@each_published_model
def test_default_adapter_has_attention_and_the_layers_of_every_token(model: Published, tmp_path):
    stage = planned(model.save(tmp_path))
    assert stage.parameters.target_modules == [*model.layers]


@pytest.mark.parametrize(("model", "modules"), ADAPTERS)
def test_planned_adapter_is_that_of_the_peft_model(model: Published, modules, tmp_path):
    folder = model.save(tmp_path)
    stage = planned(folder, target_modules=modules)
    trained = [p for p in adapted(folder, stage.parameters).parameters() if p.requires_grad]
    assert all(p.element_size() == 4 for p in trained)
    for optim in ("adamw_torch_fused", "adafactor"):
        parameters = stage.parameters.model_copy(update={"optim": optim})
        block = Block(shape_of(folder), parameters, Pass.of([1], 1), "GPU")
        assert block.trained == sum(p.numel() for p in trained)
        states = sum(sum(p.shape) if optim == "adafactor" else 2 * p.numel() for p in trained)
        assert block.moments == states


def quantized_weights(model: PreTrainedModel) -> int:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig
    from transformers.quantizers.auto import AutoHfQuantizer

    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    quantizer = AutoHfQuantizer.from_config(config)
    quantizer._process_model_before_weight_loading(model, device_map=None)
    layers = [one for one in model.modules() if isinstance(one, bitsandbytes.nn.Linear4bit)]
    return sum(one.in_features * one.out_features for one in layers)


@each_published_model
def test_planned_quantization_is_that_of_bitsandbytes(model: Published, tmp_path):
    folder = model.save(tmp_path)
    assert shape_of(folder).quantized == quantized_weights(skeleton(folder))


def test_nf4_leaves_the_experts_in_16_bits(tmp_path):
    shape = shape_of(QWEN3_30B_A3B.save(tmp_path))
    weights = {
        quantization: Block(
            shape, stage_plan("sft", **LORA, quantization=quantization).parameters, Pass.of([1], 1), "GPU"
        ).weights
        for quantization in (None, "NF4")
    }
    assert weights[None] / 2**30 == pytest.approx(56.9, abs=0.05)
    assert weights["NF4"] / 2**30 == pytest.approx(55.6, abs=0.05)


@pytest.mark.model
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.id)
def test_planned_adapter_of_each_family_equals_the_peft_adapter(family: Family, tmp_path):
    folder = save_family_config(tmp_path, family)
    stage = planned(folder, target_modules=[*family.targets] or ["all-linear"])
    shape = model_shape(folder)
    tuned = adapted(folder, stage.parameters)
    names = [key for key, p in tuned.named_parameters() if p.requires_grad]
    if "MoE" in family.features:
        assert not any(".experts." in name or ".router." in name or ".gate." in name for name in names)
    assert len({p.dtype for p in tuned.parameters() if p.requires_grad}) == 1
    if shape is not None:
        assert shape.adapter_weights(stage.parameters.target_modules or [], 16) == sum(
            p.numel() for p in tuned.parameters() if p.requires_grad
        )
