"""The memory sizes in docs/choosing.md match the estimate."""

from pathlib import Path
from typing import Any

import pytest

from support.model_shapes import LLAMA_7B, LLAMA_8B, QWEN_1_5B, QWEN_7B, QWEN_14B, SMOLLM2
from tunegate_api.contract.plan import StagePlan, TrainingParameters
from tunegate_api.contract.shapes import GenerationBatch, ModelShape, Pass
from tunegate_api.memory.estimate import estimate, judging
from tunegate_api.memory.fitting import CARDS, KEPT_FREE, needed, remedies, size_text, smallest_card

PAGE = (Path(__file__).parents[2] / "docs" / "choosing.md").read_text(encoding="utf-8")
PROSE = " ".join(PAGE.split())
"""The text of docs/choosing.md without line breaks."""
MODELS = {
    "SmolLM2-135M": SMOLLM2,
    "Qwen2.5-1.5B": QWEN_1_5B,
    "Llama-2-7B": LLAMA_7B,
    "Qwen2.5-7B": QWEN_7B,
    "Llama-3.1-8B": LLAMA_8B,
    "Qwen2.5-14B": QWEN_14B,
}
LORA: dict[str, Any] = {
    "adapter": "LoRA",
    "lora_r": 16,
    "lora_dropout": 0,
    "target_modules": ["all-linear"],
    "dtype": "bfloat16",
}
METHODS = [LORA | {"quantization": "NF4"}, LORA, {"adapter": "None", "dtype": "float32"}]
LARGEST = Pass.of([2048], labelled=512)
EVALUATION = GenerationBatch(prompts=32, longest=256, new_tokens=256)


def stage(**changes: Any) -> TrainingParameters:
    settings = {
        "method": "SFT",
        "epochs": 1,
        "learning_rate": 1e-4,
        "scheduler": "linear",
        "warmup_steps": 1,
        "weight_decay": 0,
        "max_grad_norm": 1,
        "batch_size": 16,
        "pass_tokens": 2048,
        "max_length": 2048,
        "seed": 1,
        "optim": "adamw_torch",
    }
    return TrainingParameters.model_validate(settings | changes)


def cell(model: ModelShape, method: dict[str, Any]) -> str:
    memory = estimate(model, stage(**method), LARGEST, accelerator="GPU", generation=EVALUATION)
    card = smallest_card(memory)
    return f"{size_text(memory.total)}, {f'{card} GB' if card else 'none'}"


@pytest.mark.parametrize("name", MODELS)
def test_memory_table_of_the_choosing_page_matches_the_estimate(name: str) -> None:
    row = " | ".join([name, *(cell(MODELS[name], method) for method in METHODS)])
    assert f"| {row} |" in PAGE


def test_choosing_page_states_memory_reserve_and_gpu_sizes() -> None:
    assert KEPT_FREE in PROSE
    assert f"{', '.join(map(str, CARDS[:-1]))} and {CARDS[-1]} GB" in PAGE


def test_smaller_batch_is_advised_if_evaluation_needs_the_most_memory() -> None:
    planned = StagePlan(
        name="sft",
        parameters=stage(**LORA),
        total_steps=1,
        checkpoint_steps=[1],
        tokens=1,
        gates=[],
        least_pass=LARGEST,
        largest_generation=EVALUATION,
    )
    first = next(remedies(LLAMA_7B, planned))
    assert first.change == "evaluation.batchSize: 16"
    assert smallest_card(first.memory) == 24
    assert "With a batch of 16, Llama-2-7B with LoRA fits 24 GB" in PROSE


def test_choosing_page_has_final_gate_memory_of_a_merged_model() -> None:
    quantized = stage(**LORA, quantization="NF4")
    merged = judging(QWEN_7B, quantized, [EVALUATION], accelerator="GPU", whole="bfloat16")
    assert f"trained by QLoRA and merged needs {size_text(needed(merged))} there" in PROSE
    assert merged.weights == 2 * QWEN_7B.parameters
    as_adapter = judging(QWEN_7B, quantized, [EVALUATION], accelerator="GPU")
    trained = estimate(QWEN_7B, quantized, LARGEST, accelerator="GPU", generation=EVALUATION)
    assert (as_adapter.weights, as_adapter.adapter, as_adapter.evaluation) == (
        trained.weights,
        trained.adapter,
        trained.evaluation,
    )


def test_final_gate_needs_half_the_weight_memory_of_float32_training() -> None:
    whole = stage(adapter="None", dtype="float32")
    trained = estimate(QWEN_1_5B, whole, LARGEST, accelerator="GPU", generation=EVALUATION)
    judged = judging(QWEN_1_5B, whole, [EVALUATION], accelerator="GPU", whole="bfloat16")
    assert judged.weights == trained.weights / 2
    assert judged.evaluation < trained.evaluation / 2
