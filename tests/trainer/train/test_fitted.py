"""The trainer fits the passes of a stage to the GPU that it finds, if the data role did not know the GPU."""

import pytest

from support.model_shapes import QWEN_7B
from support.trainer_root import stage_plan
from tunegate_api.contract.plan import ModelPlan, StagePlan
from tunegate_api.contract.shapes import ModelShape, Pass
from tunegate_api.memory.estimate import estimate
from tunegate_api.memory.fitting import fits
from tunegate_trainer.process.errors import CudaOutOfMemoryError
from tunegate_trainer.train import pass_tokens
from tunegate_trainer.train.pass_tokens import PassTooLargeError, need_less_memory, with_pass_tokens

GB = 10**9
LARGEST = Pass.of([900, *[400] * 15], labelled=2000)
LEAST = Pass.of([900], labelled=200)


def model(shape: ModelShape | None = QWEN_7B, parameters: int = QWEN_7B.parameters) -> ModelPlan:
    return ModelPlan(uri="hf://org/model", digest="0" * 64, parameters=parameters, shape=shape)


def fitted(planned: StagePlan, of: ModelPlan, gpu_bytes: int | None) -> StagePlan:
    return pass_tokens.fitted(planned, of, gpu_bytes, mean_tokens=430)


def stage(**changes: object) -> StagePlan:
    planned = stage_plan("sft", batch_size=16, pass_tokens=12_288, dtype="bfloat16", lora_dropout=0.0)
    return planned.model_copy(update={"largest_pass": LARGEST, "least_pass": LEAST, **changes})


def test_large_gpu_computes_the_planned_passes_without_recomputing() -> None:
    found = fitted(stage(), model(), 192 * GB)
    assert found.parameters.pass_tokens == 12_288
    assert found.activation_checkpointing is False


def test_small_gpu_recomputes_and_computes_smaller_passes() -> None:
    found = fitted(stage(), model(), 20_500 * 10**6)
    assert found.activation_checkpointing is True
    tokens = found.parameters.pass_tokens
    assert 900 < tokens < LARGEST.tokens
    for size, is_fitting in ((tokens, True), (tokens + 100, False)):
        one = Pass.of([size], labelled=min(size, 2000))
        assert fits(estimate(QWEN_7B, found.parameters, one, accelerator="GPU"), 20_500 * 10**6) is is_fitting


def test_too_small_gpu_is_tried_with_one_example_per_pass() -> None:
    found = fitted(stage(), model(), 8 * GB)
    assert (found.parameters.pass_tokens, found.activation_checkpointing) == (1, True)


@pytest.mark.parametrize(("parameters", "recomputes"), [(135_000_000, False), (7 * GB, True)])
def test_model_of_unknown_shape_is_recomputed_from_a_billion_parameters(parameters, recomputes) -> None:
    found = fitted(stage(), model(None, parameters), 80 * GB)
    assert found.activation_checkpointing is recomputes
    assert found.parameters.pass_tokens == pass_tokens.TOKENS_IF_UNKNOWN


@pytest.mark.parametrize("decided", [False, True])
def test_decision_of_the_plan_is_kept(decided: bool) -> None:
    planned = stage(activation_checkpointing=decided)
    assert fitted(planned, model(), 24 * GB) is planned


def test_nothing_is_decided_on_a_cpu() -> None:
    planned = stage()
    assert fitted(planned, model(), None) is planned


def too_large(tokens: int, units: int) -> PassTooLargeError:
    return PassTooLargeError("too much", tokens=tokens, units=units)


def test_pass_that_does_not_fit_is_recomputed_before_shrinking(tmp_path) -> None:
    used, found = stage(activation_checkpointing=False), []
    for tokens, units in ((6900, 16), (6900, 16), (3400, 8), (1200, 3)):
        need_less_memory(used, tmp_path, too_large(tokens, units))
        used = with_pass_tokens(used, tmp_path)
        found.append((used.parameters.pass_tokens, used.activation_checkpointing))
    assert found == [(12_288, True), (3450, True), (1700, True), (600, True)]
    with pytest.raises(CudaOutOfMemoryError, match="one example of 900 tokens"):
        need_less_memory(used, tmp_path, too_large(900, units=1))


def test_stored_size_does_not_enlarge_a_smaller_gpus_passes(tmp_path) -> None:
    need_less_memory(stage(activation_checkpointing=True), tmp_path, too_large(6900, 16))
    small = stage(activation_checkpointing=True)
    small = small.model_copy(update={"parameters": small.parameters.model_copy(update={"pass_tokens": 1000})})
    assert with_pass_tokens(small, tmp_path).parameters.pass_tokens == 1000
    assert with_pass_tokens(stage(activation_checkpointing=True), tmp_path).parameters.pass_tokens == 3450
