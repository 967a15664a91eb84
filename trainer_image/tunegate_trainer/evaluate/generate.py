"""Generation that changes neither the model nor any random state."""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from tunegate_api.contract.request import GenerationSettings
from tunegate_trainer.distributed.ranks import SINGLE_RANK, Ranks
from tunegate_trainer.evaluate.continuous import try_continuous
from tunegate_trainer.evaluate.prefill import prefill
from tunegate_trainer.graders import Output
from tunegate_trainer.models.architecture import context_length, rope_switch
from tunegate_trainer.models.loading import is_sharded, no_gradients
from tunegate_trainer.tokens.chat import encode, stop_token_ids, without_special_tokens
from tunegate_trainer.tokens.reasoning import (
    ReasoningMarks,
    may_reason,
    reasoning_marks,
    without_reasoning,
)

_BYTE = re.compile("<0x[0-9A-F]{2}>")
"""Matches a token for a single byte."""
_COMPACT = 8
"""Finished answers are removed from the batch as soon as they are at least 1/8 of it. Removing them makes the
remaining steps cheaper, but copies the cache, so it is not done for each finished answer."""


def device_name(device: torch.device) -> str:
    """Return the name of a device: ``cpu``, or the GPU's name. Greedy outputs can differ between devices."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def generate(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    settings: GenerationSettings,
    ranks: Ranks = SINGLE_RANK,
    *,
    stops: Sequence[int] | None = None,
) -> list[Output]:
    """Return the greedy answers to rendered prompts, in their order. ``settings.samples`` is ignored.

    An answer ends at one of ``stops``, by default :func:`~tunegate_trainer.tokens.chat.stop_token_ids`. It is
    truncated at the end of the model's context, so it is empty if the prompt leaves no room in the context.

    To avoid padding, prompts are sorted by length and then divided into batches of ``settings.batch_size``.
    Without continuous batching, the batches depend only on prompts and settings, and each rank gets a part of
    the batches. With continuous batching, each rank gets a part of the prompts, so the batches also depend on
    the world size.
    """
    (outputs,) = _generate(model, tokenizer, prompts, settings, [greedy], ranks=ranks, stops=stops)
    return outputs


def generate_samples(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    settings: GenerationSettings,
    ranks: Ranks = SINGLE_RANK,
    *,
    stops: Sequence[int] | None = None,
    first: int = 0,
) -> list[tuple[Output, ...]]:
    """Return the sampled answers to each rendered prompt that vote on its outcome. ``settings`` has
    ``samples``; for ``stops``, see :func:`generate`.

    The sampled answers depend only on the model, the device, the prompts, the settings and ``first``, the
    number of the first sample, not on the ranks.
    """
    drawn = settings.samples
    if drawn is None:
        raise ValueError("settings.samples is not set")
    fixed = settings.model_copy(update={"batching": "Fixed"})
    decoders = [_sampler(float(drawn.temperature), number) for number in range(first, first + drawn.count)]
    rounds = _generate(model, tokenizer, prompts, fixed, decoders, ranks=ranks, stops=stops)
    return list(zip(*rounds, strict=True)) if prompts else []


Decoder = Callable[[Any, list[list[int]], int, list[int]], list[list[int]]]
"""Returns the new tokens of a model after each prompt of a batch. The last arguments are the maximum number
of new tokens, and the stop tokens."""


def _sampler(temperature: float, number: int) -> Decoder:
    """Return a decoder that samples tokens. Each batch starts with the same random numbers, whichever rank
    generates it. ``number`` is the number of the sample."""

    def sample(model: Any, prompts: list[list[int]], length: int, stops: list[int]) -> list[list[int]]:
        generator = torch.Generator(model.device).manual_seed(number)
        return decode(model, prompts, length, stops, sampling(temperature, generator))

    return sample


def _generate(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    settings: GenerationSettings,
    decoders: Sequence[Decoder],
    *,
    ranks: Ranks,
    stops: Sequence[int] | None,
) -> list[list[Output]]:
    """Return one answer to each prompt by each decoder. With continuous batching, decoding is greedy."""
    stops = stop_token_ids(tokenizer, model.generation_config) if stops is None else list(stops)
    token_ids, total = [encode(tokenizer, prompt) for prompt in prompts], len(prompts)
    answers = generate_tokens(model, token_ids, settings, stops=stops, decoders=decoders, ranks=ranks)
    marks = reasoning_marks(tokenizer) if settings.reasoning == "Strip" else None
    outputs = ranks.merge(
        {
            key: read_output(tokenizer, prompts[key % total], answer, stops, marks)
            for key, answer in answers.items()
        }
    )
    empty = Output("", truncated=True)
    return [[outputs.get(number * total + i, empty) for i in range(total)] for number in range(len(decoders))]


def generate_tokens(
    model: Any,
    prompts: Sequence[list[int]],
    settings: GenerationSettings,
    *,
    stops: list[int],
    decoders: Sequence[Decoder],
    ranks: Ranks = SINGLE_RANK,
) -> dict[int, list[int]]:
    """Return the token ids of this rank's answers. The answer to prompt i by decoder n has the key
    ``n * len(prompts) + i``. There is no answer to a prompt that leaves no room in the model's context."""
    total, context = len(prompts), context_length(model.config)
    fitting = [i for i in range(total) if len(prompts[i]) < context]
    order = sorted(fitting, key=lambda i: (-len(prompts[i]), i))
    length, size = settings.max_new_tokens, settings.batch_size
    limit = min(context, rope_switch(model.config) or context)
    fits = not order or len(prompts[order[0]]) + length <= limit
    answers: dict[int, list[int]] = {}
    with undisturbed(model), no_gradients(model), _precision(model, settings):
        model.eval()
        if settings.batching == "Continuous" and fits and _supports_continuous(model):
            mine = ranks.own_share(order)
            found = try_continuous(model, [prompts[i] for i in mine], length, stops, at_once=size)
            is_answered = all(ranks.gather(found is not None))
            if found is not None and is_answered:
                return dict(zip(mine, found, strict=True))
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        work = [(number, batch) for number in range(len(decoders)) for batch in batches]
        for number, batch in ranks.own_share(work):
            new = decoders[number](model, [prompts[i] for i in batch], length, stops)
            answers.update(zip((number * total + i for i in batch), new, strict=True))
    return answers


def _supports_continuous(model: Any) -> bool:
    """Return whether this model can be used with continuous batching.

    Continuous batching needs a GPU, does not support sharded models, and runs in a thread of transformers,
    where autocast is not active.
    """
    is_mixed = torch.is_autocast_enabled(model.device.type)
    return model.device.type == "cuda" and not is_sharded(model) and not is_mixed


def _precision(model: Any, settings: GenerationSettings) -> AbstractContextManager[Any]:
    """Return a context that turns mixed precision off if ``settings`` ask for float32."""
    full = settings.precision == "Float32"
    return torch.autocast(model.device.type, enabled=False) if full else nullcontext()


def read_output(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    answer: list[int],
    stops: list[int],
    marks: ReasoningMarks | None,
) -> Output:
    """Decode the tokens of an answer. If ``marks``, the delimiters of reasoning, are given, remove the
    reasoning."""
    ended = answer[-1:] != [] and answer[-1] in stops
    ids = answer[:-1] if ended else answer
    text = str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
    if marks is not None:
        # The marks of reasoning may be special tokens.
        whole = str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        answer_text = stripped(tokenizer, marks, prompt, whole)
        text = text if answer_text is None else answer_text
    if ended:
        return Output(text, truncated=False)
    may_end_reasoning = marks is not None and marks.closes not in whole and may_reason(marks, prompt, whole)
    return Output(text, truncated=True, settled=0 if may_end_reasoning else _settled(tokenizer, ids, text))


def _settled(tokenizer: PreTrainedTokenizerBase, ids: list[int], text: str) -> int | None:
    """Return how many characters of a truncated text stay, whatever tokens follow; None if all.

    Some tokenizers have a token for each byte of a character that has no token of its own. They decode a
    sequence of such tokens as a whole, so the next token decides whether its bytes are characters.
    """
    special = set(tokenizer.all_special_ids)
    end = len(ids)
    while end and (
        ids[end - 1] in special or _BYTE.fullmatch(str(tokenizer.convert_ids_to_tokens(ids[end - 1])))
    ):
        end -= 1
    if end == len(ids):
        return None
    known, whole = (
        str(tokenizer.decode(each, skip_special_tokens=True, clean_up_tokenization_spaces=False))
        for each in (ids[:end], ids)
    )
    return max(0, len(text) - (len(whole) - len(known)))


def stripped(
    tokenizer: PreTrainedTokenizerBase, marks: ReasoningMarks, prompt: str | None, output: str
) -> str | None:
    """Return the answer in ``output``, a text that was generated after ``prompt``, without the reasoning
    before it. Returns None if there is no reasoning. ``prompt`` is None if it is unknown."""
    rest = without_reasoning(marks, prompt, output)
    return None if rest == output else without_special_tokens(tokenizer, rest).strip()


def greedy(model: Any, prompts: list[list[int]], max_new_tokens: int, stops: list[int]) -> list[list[int]]:
    """Return the most likely tokens after each prompt, see :func:`decode`."""
    return decode(model, prompts, max_new_tokens, stops, lambda logits: logits.max(-1).indices)


def sampling(temperature: float, generator: torch.Generator) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function for :func:`decode` that draws the next token at this temperature."""

    def choose(logits: torch.Tensor) -> torch.Tensor:
        shares = (logits.float() / temperature).softmax(-1)
        return torch.multinomial(shares, 1, generator=generator)[:, 0]

    return choose


@torch.no_grad()
def decode(
    model: Any,
    prompts: list[list[int]],
    max_new_tokens: int,
    stops: list[int],
    choose: Callable[[torch.Tensor], torch.Tensor],
) -> list[list[int]]:
    """Return the new token ids for each prompt of one batch, up to and including its first stop token, or
    up to the end of the model's context.

    ``choose`` returns the next token of each row, shape [rows], from its logits, shape [rows, vocabulary].
    If the model's position embeddings change at some length, see
    :func:`~tunegate_trainer.models.architecture.rope_switch`, texts up to this length are continued first.
    Texts beyond it are computed again, in another batch.
    """
    causal_lm = model.get_base_model() if hasattr(model, "get_base_model") else model
    context, switch = context_length(causal_lm.config), rope_switch(causal_lm.config)
    texts = [*prompts]
    for limit in (context,) if switch is None else (switch + 1, context):
        ends = [min(len(prompt) + max_new_tokens, limit) for prompt in prompts]
        rows = [
            i
            for i, text in enumerate(texts)
            if len(text) < ends[i] and not (len(text) > len(prompts[i]) and text[-1] in stops)
        ]
        if rows:
            batch = [texts[i] for i in rows]
            found = _continued(causal_lm, batch, [ends[i] for i in rows], stops, choose)
            for i, new in zip(rows, found, strict=True):
                texts[i] = texts[i] + new
    return [text[len(prompt) :] for text, prompt in zip(texts, prompts, strict=True)]


def _continued(
    causal_lm: Any,
    prompts: list[list[int]],
    ends: list[int],
    stops: list[int],
    choose: Callable[[torch.Tensor], torch.Tensor],
) -> list[list[int]]:
    """Return the new token ids for each prompt, up to and including its first stop token, or until prompt and
    answer together have as many tokens as ``ends`` says.

    ``generate`` of transformers is not used: it computes all rows until the longest answer is finished, which
    takes three times as long if one of 32 answers has 256 tokens and the others are short.
    """
    room = [end - len(prompt) for end, prompt in zip(ends, prompts, strict=True)]
    batch = prefill(causal_lm, prompts, max(room))
    logits, cache, mask = batch.logits, batch.cache, batch.mask
    positions = mask.sum(-1, keepdim=True)
    answers: list[list[int]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))  # the index of the prompt of each row in the batch
    done: set[int] = set()
    while True:
        chosen = choose(logits)
        for row, token in zip(rows, chosen.tolist(), strict=True):
            if row not in done:
                answers[row].append(token)
                if token in stops or len(answers[row]) >= room[row]:
                    done.add(row)
        alive = [i for i, row in enumerate(rows) if row not in done]
        if not alive:
            return answers
        if (len(rows) - len(alive)) * _COMPACT >= len(rows):
            kept = torch.tensor(alive, device=causal_lm.device)
            cache.reorder_cache(kept)  # type: ignore[arg-type] # torch.tensor has no LongTensor type
            chosen, mask, positions = chosen[kept], mask[kept], positions[kept]
            rows = [rows[i] for i in alive]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=-1)
        logits = causal_lm(
            input_ids=chosen[:, None],
            attention_mask=mask,
            position_ids=positions.clamp(max=max(ends) - 2),  # done rows may be computed further
            cache=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        positions = positions + 1


@contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Restore the model's training mode and all random states after this block, so that training is not
    affected."""
    training, python_state, numpy_state = model.training, random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            model.train(training)
            random.setstate(python_state)
            np.random.set_state(numpy_state)
