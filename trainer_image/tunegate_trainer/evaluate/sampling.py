"""Sample several different completions of each prompt."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from tunegate_api.preference import SampledPrompt, SampleRequest
from tunegate_trainer.evaluate.generate import decode, read_output, sampling, undisturbed
from tunegate_trainer.models.loading import no_gradients
from tunegate_trainer.tokens.chat import encode, stop_token_ids
from tunegate_trainer.tokens.reasoning import reasoning_marks

ROUNDS = 4
"""How often completions are sampled that a prompt still lacks, because earlier samples cannot be used."""


def sample_completions(
    model: Any, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], request: SampleRequest
) -> Iterator[SampledPrompt]:
    """Yield the completions of rendered prompts, in their order.

    Samples that repeat another one apart from white space, that are empty or that do not end are replaced,
    for a limited number of times. The samples depend only on the model, the device and the arguments.
    """
    at_once = max(1, request.batch_size // request.completions)
    choose = sampling(request.temperature, torch.Generator(model.device).manual_seed(request.seed))
    stops = stop_token_ids(tokenizer, model.generation_config)
    marks = reasoning_marks(tokenizer)

    for start in range(0, len(prompts), at_once):
        found = [SampledPrompt(index=i) for i in range(start, min(start + at_once, len(prompts)))]
        for _ in range(ROUNDS):
            lacking = [one for one in found for _ in range(request.completions - len(one.texts))]
            if not lacking:
                break
            token_ids = [encode(tokenizer, prompts[one.index]) for one in lacking]
            with undisturbed(model), no_gradients(model):
                model.eval()
                answers = decode(model, token_ids, request.max_new_tokens, stops, choose)
            for one, answer in zip(lacking, answers, strict=True):
                output = read_output(tokenizer, prompts[one.index], answer, stops, marks)
                _add(found, one.index - start, output.text, is_cut=output.truncated)
        yield from found


def _add(found: list[SampledPrompt], position: int, text: str, *, is_cut: bool) -> None:
    """Add a sample to the completions of a prompt, or count why it is not used."""
    one = found[position]
    if is_cut:
        changed: dict[str, Any] = {"cut": one.cut + 1}
    elif not text.strip():
        changed = {"empty": one.empty + 1}
    elif text.split() in [other.split() for other in one.texts]:
        changed = {"repeated": one.repeated + 1}
    else:
        changed = {"texts": [*one.texts, text]}
    found[position] = one.model_copy(update=changed)
