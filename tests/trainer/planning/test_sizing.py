"""Passes are sized by a number of tokens that fits the GPU, with the lengths that the data really has."""

import math
import random
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from statistics import NormalDist, mean
from typing import Any, cast

import pytest

from support.model_shapes import LLAMA_8B, QWEN_7B, SMOLLM2
from support.trainer_root import TrainerRoot
from tunegate_api.contract.plan import StagePlan
from tunegate_api.contract.shapes import Accelerator, ModelShape, Pass
from tunegate_api.memory.estimate import estimate
from tunegate_api.memory.fitting import fits, size_text
from tunegate_trainer.data.usable import UsableRow
from tunegate_trainer.planning.plan import plan_stages
from tunegate_trainer.planning.sizing import with_memory
from tunegate_trainer.planning.too_large import GateMemory, too_large_error
from tunegate_trainer.process.batching import balanced
from tunegate_trainer.process.errors import GpuTooSmallError
from tunegate_trainer.tokens.examples import TOKENS_PER_PASS
from tunegate_trainer.tokens.rows import Row

PAGE = (Path(__file__).parents[3] / "docs" / "choosing.md").read_text(encoding="utf-8")
GB = 10**9
LORA = {"type": "LoRA", "r": 16}
BATCH = 16


def lengths_of(average: int, longest: int, count: int = 2000, spread: float = 0.75) -> list[int]:
    """Return lengths with a lognormal distribution, as those of texts often have, cut at ``longest``."""
    shape = [math.exp(spread * NormalDist().inv_cdf((i + 0.5) / count)) for i in range(count)]
    low, high = 1.0, float(longest)
    while high - low > 1e-6 * longest:
        middle = (low + high) / 2
        found = [min(longest, math.ceil(middle * one)) for one in shape]
        low, high = (middle, high) if mean(found) < average else (low, middle)
    return [min(longest, math.ceil(low * one)) for one in shape]


TEXTS = lengths_of(410, 2048)
"""Rows of 410 tokens on average, and at most 2,048."""


def measured(lengths: Sequence[int]) -> list[UsableRow[Row]]:
    """Return rows of these lengths. A quarter of their tokens carries loss."""
    return [UsableRow(cast("Any", None), n, max(1, n // 4), "", n // 4, 0) for n in lengths]


@pytest.fixture
def plan(tmp_path, tiny_model):
    """Return a function that plans an SFT stage for rows of the given lengths."""
    made: list[Path] = []

    def make(
        lengths: Sequence[int],
        model: ModelShape = LLAMA_8B,
        memory: str | None = None,
        *,
        adapter: dict[str, Any] | None = LORA,
        batch_size: int = BATCH,
        **stage: Any,
    ) -> StagePlan:
        resources = {"accelerator": "GPU", "gpu": {"memory": memory}} if memory else {"accelerator": "CPU"}
        spec = {
            "resources": resources,
            "stages": [
                {
                    "name": "sft",
                    "method": "SFT",
                    "training": {"batchSize": batch_size},
                    **({"adapter": adapter} if adapter else {}),
                    **stage,
                }
            ],
        }
        made.append(tmp_path / f"root-{len(made)}")
        request = TrainerRoot(made[-1], spec=spec).write(tiny_model).context().request
        stages = plan_stages(request, {"SFT": lengths}, 8192, model.parameters)
        (found,) = with_memory(
            request, stages, model, cast("Any", None), rows=measured(lengths), pairs=[], batches=[]
        )
        error = too_large_error(GateMemory(request, model, model.parameters, [found], [], "bfloat16"))
        if error:
            raise error
        return found

    return make


def steps_of(lengths: Sequence[int], batch_size: int = BATCH) -> list[list[int]]:
    """Return the lengths of the rows in 200 optimizer steps."""
    drawn = random.Random(5)
    return [drawn.sample(list(lengths), batch_size) for _ in range(200)]


def fixed_passes(
    lengths: Sequence[int], stage: StagePlan, model: ModelShape, gpu_bytes: int
) -> tuple[int, bool, int]:
    """Return the plan with a fixed number of examples per pass, as it was: the largest number that divides
    the batch and whose longest rows fit the GPU, whether activations are recomputed, and the memory."""
    longest, found = sorted(lengths, reverse=True), {}
    for checkpointing in (False, True):
        for count in (n for n in range(BATCH, 0, -1) if BATCH % n == 0):
            one = Pass.of(longest[:count], sum(longest[:count]) // 4)
            memory = estimate(model, stage.parameters, one, accelerator="GPU", checkpointing=checkpointing)
            if count * mean(lengths) <= TOKENS_PER_PASS["GPU"] and fits(memory, gpu_bytes):
                found[checkpointing] = (count, checkpointing, memory.total)
                break
    is_enough = False in found and found[False][0] * mean(lengths) >= 4096
    return found[False] if is_enough or found.get(False, (0,))[0] == found[True][0] else found[True]


def passes_text(count: float, *, recomputes: bool, memory: int) -> str:
    return f"{count:.1f}, activations {'recomputed' if recomputes else 'kept'}, {size_text(memory)}"


@pytest.mark.parametrize(
    ("gpu", "passes", "recomputes", "recomputed_before"),
    [(24, 1, True, True), (40, 2, False, True), (80, 1, False, True)],
)
def test_lora_of_8b_keeps_activations_that_fit_the_real_rows(
    plan, gpu, passes, recomputes, recomputed_before
):
    stage = plan(TEXTS, memory=f"{gpu}G")
    assert stage.activation_checkpointing is recomputes
    in_steps = mean(len(balanced(step, stage.parameters.pass_tokens)) for step in steps_of(TEXTS))
    assert in_steps == pytest.approx(passes, abs=0.15)
    count, before, memory = fixed_passes(TEXTS, stage, LLAMA_8B, gpu * GB)
    assert before is recomputed_before
    assert (
        f"| {gpu} GB | {passes_text(BATCH / count, recomputes=before, memory=memory)} "
        f"| {passes_text(in_steps, recomputes=recomputes, memory=stage.memory.total)} "
        f"| {stage.parameters.pass_tokens:,} |"
    ) in PAGE


@pytest.mark.parametrize("memory", ["24G", "40G", "80G", None])
@pytest.mark.parametrize(
    "lengths", [TEXTS, [512] * 500, [*([60] * 480), *([2000] * 20)]], ids=["texts", "equal", "few long rows"]
)
@pytest.mark.parametrize("adapter", [LORA, None], ids=["LoRA", "all weights"])
def test_no_pass_of_a_step_exceeds_the_planned_memory(plan, lengths, memory, adapter):
    model = LLAMA_8B if adapter else SMOLLM2
    stage = plan(lengths, model, memory, adapter=adapter)
    accelerator: Accelerator = "GPU" if memory else "CPU"
    for step in steps_of(lengths):
        for group in balanced(step, stage.parameters.pass_tokens):
            chosen = [step[i] for i in group]
            one = Pass.of(chosen, sum(max(1, n // 4) for n in chosen))
            needs = estimate(
                model,
                stage.parameters,
                one,
                accelerator=accelerator,
                checkpointing=stage.activation_checkpointing,
            )
            assert needs.total <= stage.memory.total


@pytest.mark.parametrize("memory", ["24G", "40G", "80G"])
@pytest.mark.parametrize("batch_size", [8, 16, 48])
@pytest.mark.parametrize("average", [60, 410, 900])
def test_steps_have_no_more_passes_than_with_fixed_examples(plan, memory, batch_size, average):
    lengths = lengths_of(average, 2048)
    stage = plan(lengths, QWEN_7B, memory, batch_size=batch_size)
    longest = list(accumulate(sorted(lengths, reverse=True)))
    fixed = max(
        n
        for n in range(1, batch_size + 1)
        if batch_size % n == 0
        and (n == 1 or n * average <= TOKENS_PER_PASS["GPU"])
        and (n == 1 or longest[n - 1] <= stage.parameters.pass_tokens)
    )
    counts = [len(balanced(step, stage.parameters.pass_tokens)) for step in steps_of(lengths, batch_size)]
    assert max(counts) <= batch_size // fixed


def test_row_that_fits_only_with_recomputed_activations_is_recomputed(plan):
    short, long = plan([400] * 300, memory="34G"), plan([*[400] * 300, 6000], memory="34G")
    assert short.activation_checkpointing is False
    assert long.activation_checkpointing is True
    assert long.least_pass.tokens == 6000


def test_row_longer_than_the_budget_has_its_own_pass(plan):
    stage = plan([*[30] * 300, 4000], SMOLLM2)
    assert stage.parameters.pass_tokens < 4000
    assert (stage.largest_pass.examples, stage.largest_pass.tokens) == (1, 4000)


def test_row_that_fits_no_pass_is_refused(plan):
    with pytest.raises(GpuTooSmallError, match="for one example of 8000 tokens per pass"):
        plan([*[400] * 300, 8000], memory="18G")


def test_step_with_more_rows_than_data_repeats_them(plan):
    stage = plan([100, 90, 80], memory="80G", batch_size=8)
    assert stage.largest_pass.examples == 8
    assert stage.largest_pass.tokens == 3 * 100 + 3 * 90 + 2 * 80
