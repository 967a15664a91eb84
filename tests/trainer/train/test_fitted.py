"""The trainer fits the passes of a stage to the GPU that it finds, if the data role did not know the GPU."""

import pytest

from support.model_shapes import QWEN_7B
from support.trainer_root import stage_plan
from tunegate_api.memory.estimate import estimate
from tunegate_api.memory.fitting import fits
from tunegate_api.memory.shapes import ModelShape, Pass
from tunegate_api.plan import ModelPlan, StagePlan
from tunegate_trainer.process.errors import CudaOutOfMemoryError
from tunegate_trainer.train import micro_batch
from tunegate_trainer.train.micro_batch import need_less_memory, with_micro_batch

GB = 10**9
LARGEST = Pass.of([900, *[400] * 15], labelled=2000)


def model(shape: ModelShape | None = QWEN_7B, parameters: int = QWEN_7B.parameters) -> ModelPlan:
    return ModelPlan(uri="hf://org/model", digest="0" * 64, parameters=parameters, shape=shape)


def fitted(planned: StagePlan, of: ModelPlan, gpu_bytes: int | None) -> StagePlan:
    return micro_batch.fitted(planned, of, gpu_bytes, mean_tokens=430)


def stage(**changes: object) -> StagePlan:
    planned = stage_plan("sft", batch_size=16, micro_batch_size=16, dtype="bfloat16", lora_dropout=0.0)
    return planned.model_copy(update={"largest_pass": LARGEST, **changes})


def test_large_gpu_computes_the_planned_passes_without_recomputing() -> None:
    found = fitted(stage(), model(), 192 * GB)
    assert found.parameters.micro_batch_size == 16
    assert found.activation_checkpointing is False


def test_small_gpu_recomputes_and_computes_fewer_examples() -> None:
    found = fitted(stage(), model(), 20_500 * 10**6)
    assert found.activation_checkpointing is True
    size = found.parameters.micro_batch_size
    assert 1 < size < 16
    longest = Pass.of([900, *[400] * (size - 1)], labelled=2000)
    assert fits(estimate(QWEN_7B, found.parameters, longest, accelerator="GPU"), 20_500 * 10**6)


def test_gpu_that_is_too_small_is_tried_with_one_example() -> None:
    found = fitted(stage(), model(), 8 * GB)
    assert (found.parameters.micro_batch_size, found.activation_checkpointing) == (1, True)


@pytest.mark.parametrize(("parameters", "recomputes"), [(135_000_000, False), (7 * GB, True)])
def test_model_of_unknown_shape_is_recomputed_from_a_billion_parameters(parameters, recomputes) -> None:
    found = fitted(stage(), model(None, parameters), 80 * GB)
    assert found.activation_checkpointing is recomputes
    assert found.parameters.micro_batch_size == 2, "passes of about 1,000 tokens"


@pytest.mark.parametrize("decided", [False, True])
def test_decision_of_the_plan_is_kept(decided: bool) -> None:
    planned = stage(activation_checkpointing=decided)
    assert fitted(planned, model(), 24 * GB) is planned


def test_nothing_is_decided_on_a_cpu() -> None:
    planned = stage()
    assert fitted(planned, model(), None) is planned


def test_plan_for_few_pairs_is_fitted_to_the_pairs_that_exist() -> None:
    few = stage(largest_pass=Pass.of([900] * 4, labelled=2000))
    few = few.model_copy(update={"parameters": few.parameters.model_copy(update={"method": "DPO"})})
    found = fitted(few, model(), 24 * GB)
    assert found.parameters.micro_batch_size >= 1
    assert fitted(few, model(), 8 * GB).parameters.micro_batch_size == 1


def test_pass_that_does_not_fit_is_recomputed_before_it_gets_smaller(tmp_path) -> None:
    used = stage(activation_checkpointing=False)
    sizes = []
    while True:
        used = with_micro_batch(used, tmp_path)
        sizes.append((used.parameters.micro_batch_size, used.activation_checkpointing))
        try:
            need_less_memory(used, tmp_path, "too much")
        except CudaOutOfMemoryError:
            break
    assert sizes == [(16, False), (16, True), (8, True), (4, True), (2, True), (1, True)]


def test_stored_size_does_not_enlarge_the_passes_of_a_smaller_gpu(tmp_path) -> None:
    need_less_memory(stage(activation_checkpointing=True), tmp_path, "too much")
    small = stage(activation_checkpointing=True)
    small = small.model_copy(
        update={"parameters": small.parameters.model_copy(update={"micro_batch_size": 2})}
    )
    assert with_micro_batch(small, tmp_path).parameters.micro_batch_size == 2
    assert with_micro_batch(stage(activation_checkpointing=True), tmp_path).parameters.micro_batch_size == 8
