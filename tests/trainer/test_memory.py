"""The memory estimate, compared with measured allocations and with published numbers for 7B models."""

from collections.abc import Iterator
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import LlamaConfig, Qwen2Config

from support.model_shapes import LLAMA_7B, QWEN_7B, SMOLLM2
from support.sharded_memory import SHARDED, Sharded, first_rank, measured_sharded
from support.tensor_memory import (
    CONFIGURATIONS,
    FULL,
    LORA,
    Configuration,
    measure_generation,
    measured,
    save_model,
)
from support.trainer_root import stage_plan
from tunegate_api.contract.request import GateRequest, Request
from tunegate_api.contract.shapes import GenerationBatch, Memory, ModelShape, Pass, Sharding
from tunegate_api.memory.block import BFLOAT16
from tunegate_api.memory.estimate import estimate
from tunegate_api.memory.fitting import (
    ENOUGH_TOKENS,
    Fit,
    by_part,
    fit,
    fits,
    least_memory,
    needed,
    remedies,
    smallest_card,
)
from tunegate_api.v1alpha2 import FineTuneJob
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_trainer.models.shape import model_shape
from tunegate_trainer.planning.plan import plan_stages
from tunegate_trainer.planning.sizing import gpu_bytes, with_estimate

EXAMPLES = Path(__file__).parents[2] / "examples"
GB = 10**9
LONGEST = Pass.of([2048], labelled=512)
QLORA = LORA | {"quantization": "NF4"}
COMMON = ("all weights", "LoRA on all linear", "QLoRA")
"""The names of the configurations that `make test` measures. `make test-slow` measures the other ones."""


@pytest.mark.model
@pytest.mark.parametrize(
    "one",
    [
        pytest.param(one, id=one.name, marks=[] if one.name in COMMON else pytest.mark.slow)
        for one in CONFIGURATIONS
    ],
)
def test_estimate_is_within_ten_percent_of_training_memory(one: Configuration, tmp_path) -> None:
    allocated, estimated = measured(one, tmp_path)
    details = f"allocated {allocated}, estimated {estimated} = {estimated.total}"
    assert estimated.total == pytest.approx(allocated.peak, rel=0.1), details
    assert estimated.weights + estimated.adapter == pytest.approx(allocated.weights, rel=0.01), details
    assert estimated.optimizer == pytest.approx(allocated.optimizer, rel=0.01), details
    # The rest without weights and optimizer, which are easy to estimate.
    moving = allocated.peak - allocated.weights - allocated.optimizer
    assert estimated.gradients + estimated.activations + estimated.logits == pytest.approx(moving, rel=0.1), (
        details
    )


@pytest.fixture(scope="module")
def rank() -> Iterator[Pool]:
    with first_rank() as pool:
        yield pool


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize("one", SHARDED, ids=lambda one: one.name)
def test_estimate_is_within_ten_percent_of_ranks_memory(one: Sharded, rank, tmp_path) -> None:
    allocated, estimated = measured_sharded(one, tmp_path, rank)
    details = f"allocated {allocated}, estimated {estimated} = {estimated.total}"
    assert estimated.total == pytest.approx(allocated.peak, rel=0.1), details
    assert estimated.optimizer == pytest.approx(allocated.optimizer, rel=0.01), details


@pytest.mark.model
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("prompts", "longest", "new_tokens"),
    [(8, 100, 20), pytest.param(16, 30, 100, marks=pytest.mark.slow)],
)
def test_estimate_is_within_ten_percent_of_evaluation_memory(
    dtype, prompts, longest, new_tokens, tmp_path
) -> None:
    largest = GenerationBatch(prompts=prompts, longest=longest, new_tokens=new_tokens)
    settings = LORA | {"dtype": dtype}
    save_model(tmp_path)
    stage = stage_plan("sft", **settings).parameters
    estimated = estimate(
        model_shape(tmp_path), stage, Pass.of([10], 5), accelerator="CPU", generation=largest
    ).evaluation
    assert estimated == pytest.approx(measure_generation(tmp_path, largest, **settings), rel=0.1)


def estimate_7b(model: ModelShape, settings: dict[str, Any], largest: Pass = LONGEST) -> Memory:
    stage = stage_plan("sft", **(settings | {"batch_size": 16, "lora_r": 16})).parameters
    return estimate(model, stage, largest, accelerator="GPU")


@pytest.mark.parametrize("model", [QWEN_7B, LLAMA_7B], ids=["Qwen2.5-7B", "Llama-2-7B"])
@pytest.mark.parametrize(
    ("settings", "low", "high"),
    [
        # LLaMA-Factory's table: 120, 16, 6 GB; axolotl's guide: LoRA 16-24, QLoRA 10-14 GB.
        ({"adapter": "None", "dtype": "float32"}, 108, 160),
        (LORA, 14, 24),
        (QLORA, 5, 14),
    ],
    ids=["all weights", "LoRA", "QLoRA"],
)
def test_estimate_of_7b_model_agrees_with_published_numbers(model, settings, low, high) -> None:
    assert low <= estimate_7b(model, settings).total / GB <= high


@pytest.mark.parametrize("model", [QWEN_7B, LLAMA_7B], ids=["Qwen2.5-7B", "Llama-2-7B"])
def test_lora_of_7b_fits_24_gb_and_qlora_16_gb(model) -> None:
    assert smallest_card(estimate_7b(model, LORA)) in (16, 24)
    assert smallest_card(estimate_7b(model, QLORA)) == 16
    assert smallest_card(estimate_7b(model, FULL)) is None


@pytest.mark.parametrize("model", [QWEN_7B, LLAMA_7B], ids=["Qwen2.5-7B", "Llama-2-7B"])
def test_full_fine_tuning_of_7b_fits_eight_40_gb_gpus(model) -> None:
    stage = stage_plan("full", **(FULL | {"batch_size": 16})).parameters
    alone, shared = (
        estimate(model, stage, LONGEST, accelerator="GPU", sharding=sharding)
        for sharding in (None, Sharding(8, BFLOAT16))
    )
    assert smallest_card(alone) is None
    assert fits(shared, 40 * GB)
    assert shared.optimizer <= alone.optimizer / 8 + 1
    assert shared.weights > alone.weights / 8, "two blocks are borrowed whole"


def test_quantization_estimate_matches_measured_reduction() -> None:
    for model, saved in ((QWEN_7B, 0.64), (LLAMA_7B, 0.71), (SMOLLM2, 0.586)):
        whole, quantized = (estimate_7b(model, settings).weights for settings in (LORA, QLORA))
        assert 1 - quantized / whole == pytest.approx(saved, abs=0.01)


def test_hint_names_fields_that_reduce_memory() -> None:
    stage = stage_plan("sft", **(FULL | {"batch_size": 16}))
    stage = stage.model_copy(update={"largest_pass": LONGEST, "least_pass": LONGEST})
    found = list(remedies(QWEN_7B, stage))
    assert [remedy.change for remedy in found][:2] == [
        "adapter: {type: LoRA}",
        "adapter: {type: LoRA} with quantization: NF4",
    ]
    before = estimate(QWEN_7B, stage.parameters, LONGEST, accelerator="GPU")
    assert all(remedy.memory.total < before.total for remedy in found)
    assert not fits(before, 80 * GB)
    assert fits(found[0].memory, 24 * GB)
    assert needed(found[0].memory) > found[0].memory.total + 10**9


@pytest.mark.parametrize(
    ("where", "settings", "keeps_all"),
    [
        ({"accelerator": "GPU"}, LORA, False),
        ({"accelerator": "GPU"}, LORA | {"target_modules": ["lm_head", "q_proj"]}, True),
        ({"accelerator": "GPU", "sharding": Sharding(2, BFLOAT16)}, FULL, True),
        ({"accelerator": "CPU"}, LORA, True),
    ],
    ids=["GPU", "adapter of the head", "sharded", "CPU"],
)
def test_only_unsharded_gpus_compute_many_logits_in_tiles(where, settings, keeps_all) -> None:
    stage = stage_plan("sft", **settings).parameters
    totals = [
        estimate(SMOLLM2, stage, Pass.of([8192], labelled), checkpointing=True, **where).total
        for labelled in (100, 1365, 1366, 8192)
    ]
    assert totals == sorted(totals), "the largest pass of a stage is the one with the most labels"
    assert (totals[-1] - totals[1] > 3 * GB) is keeps_all


def fit_lora_of_7b(gpu_bytes: int, longest: int = 512, **changes: Any) -> Fit | None:
    """Return how passes of up to 16 examples of 512 tokens, of which one is longer, fit a GPU."""
    stage = stage_plan("sft", **(LORA | {"batch_size": 16, "pass_tokens": 12_288} | changes))

    def largest(most: int) -> list[Pass]:
        tokens = min(most, longest + 15 * 512)
        alone = [Pass.of([longest], longest // 4)] if longest > most else []
        return [Pass.of([tokens // 16] * 16, tokens // 4), *alone]

    return fit(QWEN_7B, stage, gpu_bytes, processes=1, largest=largest, mean_tokens=512)


def test_activations_are_recomputed_only_if_memory_is_short() -> None:
    found = {size: fit_lora_of_7b(size * GB) for size in (16, 20, 24, 80, 141)}
    assert found[16] is None
    assert {size: one.checkpointing for size, one in found.items() if one} == {
        20: True,
        24: True,
        80: False,
        141: False,
    }
    sizes = [one.pass_tokens for one in found.values() if one]
    assert sizes == sorted(sizes)
    assert sizes[-1] == 12_288
    assert all(fits(one.memory, size * GB) for size, one in found.items() if one)


def test_passes_are_as_large_as_the_gpu_allows() -> None:
    for size in (20, 32, 40):
        found = fit_lora_of_7b(size * GB)
        assert found is not None
        stage = stage_plan("sft", **(LORA | {"batch_size": 16})).parameters
        larger = Pass.of([(found.pass_tokens + 64) // 16] * 16, found.pass_tokens // 4)
        memory = estimate(QWEN_7B, stage, larger, accelerator="GPU", checkpointing=found.checkpointing)
        assert fits(found.memory, size * GB)
        assert not fits(memory, size * GB)


def test_activations_are_not_recomputed_for_passes_that_are_large_already() -> None:
    found = fit_lora_of_7b(40 * GB)
    assert found is not None
    assert ENOUGH_TOKENS <= found.pass_tokens < 16 * 512
    assert not found.checkpointing


def test_activations_are_recomputed_if_only_small_passes_fit_with_them() -> None:
    found = fit_lora_of_7b(25 * GB)
    assert found is not None
    assert found.pass_tokens > ENOUGH_TOKENS
    assert found.checkpointing


def test_activations_are_recomputed_if_the_longest_row_needs_it() -> None:
    found = fit_lora_of_7b(40 * GB, longest=8192)
    assert found is not None
    assert found.checkpointing


def test_small_passes_keep_activations_if_steps_are_no_larger() -> None:
    found = fit_lora_of_7b(25 * GB, batch_size=2)
    assert found is not None
    assert found.pass_tokens < ENOUGH_TOKENS
    assert not found.checkpointing


def test_least_memory_is_that_of_one_recomputed_example() -> None:
    stage = stage_plan("sft", **(LORA | {"batch_size": 16, "lora_r": 16}))
    whole = Pass.of([512] * 16, 128 * 16)
    one = Pass.of([512], 128)
    stage = stage.model_copy(update={"largest_pass": whole, "least_pass": one})
    least = least_memory(QWEN_7B, stage)
    assert least == estimate_7b(QWEN_7B, LORA, one)
    assert least.total < estimate_7b(QWEN_7B, LORA, whole).total
    assert least_memory(QWEN_7B, stage.model_copy(update={"largest_pass": None, "least_pass": None})) is None


@pytest.mark.parametrize(
    ("starts_from", "where"), [(None, ""), ("Adapter", " in the stage that makes the adapter")]
)
def test_hint_names_the_stage_that_sets_inherited_values(starts_from, where) -> None:
    stage = stage_plan("dpo", **LORA | {"lora_r": 32})
    stage = stage.model_copy(
        update={"largest_pass": LONGEST, "least_pass": LONGEST, "starts_from": starts_from}
    )
    changes = [remedy.change for remedy in remedies(QWEN_7B, stage)]
    assert changes[:2] == [f"quantization: NF4{where}", f"adapter.r: 8{where}"]
    assert changes[2].startswith("training.maxLength: ")


def saved(config: Any, tmp_path) -> ModelShape:
    config.save_pretrained(tmp_path)
    return model_shape(tmp_path)


def test_model_sizes_are_read_from_configuration_alone(tmp_path) -> None:
    llama = LlamaConfig(
        vocab_size=32_000,
        hidden_size=4096,
        num_hidden_layers=32,
        num_attention_heads=32,
        intermediate_size=11_008,
        tie_word_embeddings=False,
    )
    assert saved(llama, tmp_path) == LLAMA_7B
    qwen = Qwen2Config(
        vocab_size=152_064,
        hidden_size=3584,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        intermediate_size=18_944,
        tie_word_embeddings=False,
    )
    assert saved(qwen, tmp_path) == QWEN_7B


@pytest.mark.parametrize("folder", sorted(EXAMPLES.glob("*/7b")), ids=lambda folder: folder.parent.name)
def test_example_for_7b_fits_its_requested_gpus(folder: Path) -> None:
    """Estimated with one example of maximum length per pass, and the longest prompts in the gates'
    batches."""
    job = FineTuneJob.model_validate(
        yaml.safe_load((folder / "finetunejob.yaml").read_text(encoding="utf-8"))
    )
    found = yaml.safe_load_all((folder.parent / "evalgate.yaml").read_text(encoding="utf-8"))
    specs = {gate["metadata"]["name"]: EvalGateSpec.model_validate(gate["spec"]) for gate in found}
    gates = [GateRequest(name=name, spec=spec, golden_sha256="0" * 64) for name, spec in specs.items()]
    request = Request(name="job", namespace="default", uid="uid", spec=job.spec, gates=gates)
    stages = plan_stages(request, {"SFT": [100] * 300, "DPO": [100] * 300}, 32768, QWEN_7B.parameters)
    generations = [request.generation_of(gate) for gate in gates]
    batches = [
        GenerationBatch(prompts=one.batch_size, longest=128, new_tokens=one.max_new_tokens)
        for one in generations
    ]
    for planned in stages:
        length, examples = planned.parameters.max_length, 2 if planned.parameters.method == "DPO" else 1
        largest = Pass.of([length] * examples, labelled=length * examples)
        stage = with_estimate(request, planned, QWEN_7B, largest=largest, batches=batches)
        assert stage.memory is not None
        assert fits(stage.memory, gpu_bytes(request)), by_part(stage.memory)
