"""Evaluate a model again with other batches."""

import time
from collections.abc import Sequence
from fractions import Fraction
from random import Random
from typing import Any

from transformers import PreTrainedTokenizerBase

from tunegate_api.contract.request import GenerationSettings
from tunegate_trainer.evaluate.evaluate import SetResult, judge_outputs
from tunegate_trainer.evaluate.generate import generate, generate_samples
from tunegate_trainer.evaluate.merged import merged_adapter
from tunegate_trainer.evaluate.sets import GeneratedSet
from tunegate_trainer.graders import Output

_SIZES = (Fraction(1, 2), Fraction(3, 4))
"""Sizes of batches, as shares of the size with which the gate evaluates. The sizes take turns. They are
smaller, because the memory of the pod was sized for the gate's batches."""


def evaluate_again(
    model: Any, tokenizer: PreTrainedTokenizerBase, cases: GeneratedSet, number: int, *, stops: Sequence[int]
) -> SetResult:
    """Return the results of ``model`` with other batches than in a usual evaluation.

    The prompts are shuffled before they are divided into smaller batches. Greedy outputs then differ if two
    tokens are almost equally likely. With ``samples``, the outputs are drawn with other random numbers.
    ``number``, from 1, decides about order, batch size and random numbers.
    """
    start = time.monotonic()
    prompts = list(dict.fromkeys(case.prompt for case in cases.cases))
    Random(number).shuffle(prompts)
    settings = cases.generation.model_copy(
        update={"batch_size": batch_size(cases.generation.batch_size, len(prompts), number)}
    )
    # Continuous batching fills a batch from all prompts. Otherwise each call generates one batch, because it
    # would sort more prompts by length.
    at_once = len(prompts) if settings.batching == "Continuous" else settings.batch_size
    found: dict[str, tuple[Output, ...]] = {}
    with merged_adapter(model):
        for first in range(0, len(prompts), at_once):
            batch = prompts[first : first + at_once]
            outputs = _outputs(model, tokenizer, batch, settings, number=number, stops=stops)
            found.update(zip(batch, outputs, strict=True))
    results = judge_outputs(cases.cases, [found[case.prompt] for case in cases.cases], settings.samples)
    return SetResult(cases=results, seconds=round(time.monotonic() - start, 3))


def batch_size(usual: int, prompts: int, number: int) -> int:
    """Return the batch size of the repetition ``number`` if a gate has ``usual`` prompts in a batch."""
    return max(1, int(min(usual, prompts) * _SIZES[(number - 1) % len(_SIZES)]))


def _outputs(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    settings: GenerationSettings,
    *,
    number: int,
    stops: Sequence[int],
) -> Sequence[tuple[Output, ...]]:
    if settings.samples is None:
        return [(output,) for output in generate(model, tokenizer, prompts, settings, stops=stops)]
    first = number * settings.samples.count
    return generate_samples(model, tokenizer, prompts, settings, stops=stops, first=first)
