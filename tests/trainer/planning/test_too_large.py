"""A job that does not fit one GPU is refused before a GPU is requested, also if little is known about it."""

import re
from collections.abc import Sequence
from typing import Any

import pytest

from support.model_shapes import LLAMA_70B, LLAMA_405B, QWEN_7B
from support.trainer_root import ALL_WEIGHTS, stage_plan
from tunegate_api.contract.plan import StagePlan
from tunegate_api.contract.request import Request
from tunegate_api.contract.shapes import GenerationBatch, ModelShape, Pass
from tunegate_trainer.planning.sizing import with_estimate
from tunegate_trainer.planning.too_large import GateMemory, too_large_error
from tunegate_trainer.process.errors import GpuTooSmallError

LORA: dict[str, Any] = {"lora_r": 16, "lora_dropout": 0.0, "dtype": "bfloat16"}
QLORA = LORA | {"quantization": "NF4"}
FULL: dict[str, Any] = ALL_WEIGHTS | {"dtype": "float32"}
BATCH = GenerationBatch(prompts=8, longest=256, new_tokens=64)
LARGE_BATCH = GenerationBatch(prompts=256, longest=1024, new_tokens=512)


@pytest.fixture
def make_request(make_root):
    """Return a function that makes the request of a job with this memory and number of GPUs."""

    def make(memory: str | None = None, count: int = 1, **spec: Any) -> Request:
        gpu: dict[str, Any] = {"count": count, **({"memory": memory} if memory else {})}
        resources = spec.pop("resources", {"accelerator": "GPU", "gpu": gpu})
        request: Request = make_root(spec={"resources": resources, **spec}).context().request
        return request

    return make


def refusal(
    request: Request,
    shape: ModelShape | None,
    parameters: dict[str, Any],
    *,
    batches: Sequence[GenerationBatch] = (),
    count: int = 0,
    **changes: Any,
) -> GpuTooSmallError | None:
    """Return the error for a job with one stage, whose passes have one example of 1,024 tokens. A model of
    unknown shape has ``count`` parameters."""
    stage: StagePlan = stage_plan("sft", [2], **parameters).model_copy(update=changes)
    if shape:
        stage = with_estimate(request, stage, shape, largest=Pass.of([1024], 256))
    size = shape.parameters if shape else count
    return too_large_error(GateMemory(request, shape, size, [stage], batches, "bfloat16"))


@pytest.mark.parametrize(
    ("spec", "changes", "hint"),
    [
        ({}, {}, None),
        (
            {"artifact": {"form": "Merged"}},
            {},
            r"one of: artifact.form: Adapter \(saves .* fits\); a GPU of 1",
        ),
        ({}, {"starts_from": "Merged"}, "use a GPU of 1"),
        ({"artifact": {"form": "Merged"}}, {"starts_from": "Merged"}, "use a GPU of 1"),
    ],
    ids=["adapter", "merged", "stage on a merged base", "both"],
)
def test_gpu_too_small_for_the_final_gate_is_refused(make_request, spec, changes, hint):
    request = make_request("16Gi", **spec)
    first = stage_plan("first", [2], **QLORA)
    stages = [first] if "starts_from" not in changes else [first, first.model_copy(update=changes)]
    stages = [with_estimate(request, one, QWEN_7B, largest=Pass.of([100], 50)) for one in stages]
    error = too_large_error(GateMemory(request, QWEN_7B, QWEN_7B.parameters, stages, [BATCH], "bfloat16"))
    if hint is None:
        assert error is None
        return
    assert error is not None
    assert "on one GPU, which needs an estimated 1" in str(error)
    assert "but resources.gpu.memory is 16.0 GiB: weights 14.2 GiB" in str(error)
    assert re.match(hint, error.hint)


def test_sharded_stage_whose_gate_exceeds_one_gpu_is_refused(make_request):
    """Training shards the weights over all GPUs, but the gate loads the whole model on one."""
    request = make_request("80G", 64)
    error = refusal(request, LLAMA_70B, FULL | {"batch_size": 64}, parallelism="FSDP")
    assert "the final gate evaluates the result of stage sft on one GPU" in str(error)
    assert "which needs an estimated 139" in str(error)
    assert "but resources.gpu.memory is 74.5 GiB: weights 131.4 GiB" in str(error)
    assert error is not None
    assert "adapter: {type: LoRA} with quantization: NF4 (saves " in error.hint
    assert error.hint.endswith("; a GPU of 139.4 GiB")
    assert refusal(make_request("80G"), LLAMA_70B, QLORA) is None
    assert refusal(make_request("160G", 64), LLAMA_70B, FULL | {"batch_size": 64}, parallelism="FSDP") is None


@pytest.mark.parametrize(
    ("shape", "parameters", "is_refused"),
    [
        pytest.param(LLAMA_405B, LORA, True, id="405B"),
        pytest.param(LLAMA_405B, QLORA, False, id="405B in 4 bits"),
        pytest.param(LLAMA_70B, LORA, False, id="70B"),
    ],
)
def test_unknown_gpu_is_assumed_to_be_the_largest(make_request, shape, parameters, is_refused):
    error = refusal(make_request(), shape, parameters)
    assert (error is not None) is is_refused
    if error:
        assert "resources.gpu.memory is not set, and the largest GPU has 268.2 GiB" in str(error)
        assert "quantization: NF4 (saves " in error.hint
        assert error.hint.endswith("; a smaller model"), "no GPU has as much memory"


@pytest.mark.parametrize(
    ("parameters", "memory", "needed"),
    [
        pytest.param(LORA, None, "745.1 GiB", id="no GPU is large enough"),
        pytest.param(FULL, "700G", "745.1 GiB", id="all weights"),
        pytest.param(QLORA, "80G", "186.3 GiB", id="4 bits"),
        pytest.param(QLORA, "300G", None, id="4 bits, fits"),
        pytest.param(LORA, "900G", None, id="fits"),
    ],
)
def test_unknown_model_whose_weights_do_not_fit_is_refused(make_request, parameters, memory, needed):
    error = refusal(make_request(memory), None, parameters, count=400 * 10**9)
    assert (error is None) is (needed is None)
    if error:
        assert f"its weights alone need {needed}, but resources.gpu.memory is" in str(error)
        assert "a smaller model" in error.hint


def test_gate_names_a_smaller_batch_only_if_it_fits(make_request):
    errors = [
        refusal(make_request(memory), QWEN_7B, LORA, batches=[LARGE_BATCH]) for memory in ("24G", "17G")
    ]
    hints = [error.hint for error in errors if error]
    assert ["evaluation.batchSize: 1" in hint for hint in hints] == [True, False]


def test_model_of_any_size_is_accepted_on_cpus(make_request):
    assert refusal(make_request(resources={"accelerator": "CPU"}), LLAMA_405B, FULL) is None
