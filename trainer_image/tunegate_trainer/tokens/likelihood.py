"""Log-probabilities of completions under a model, from which losses and preferences are computed."""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch.nn.functional import cross_entropy, pad

from tunegate_api.memory.estimate import MOST_LOGITS
from tunegate_trainer.distributed.ranks import SINGLE_RANK, Ranks
from tunegate_trainer.models.architecture import rope_switch
from tunegate_trainer.models.loading import is_sharded, no_gradients
from tunegate_trainer.process.batching import batched
from tunegate_trainer.process.errors import is_out_of_memory
from tunegate_trainer.tokens.examples import IGNORED, TOKENS_PER_PASS, Example
from tunegate_trainer.tokens.shared_prefix import allows_shared_prefixes, share_prefixes


def flatten(examples: Sequence[Example]) -> dict[str, Any]:
    """Concatenate examples into one row. ``position_ids`` restart at 0 for each example.

    The result equals that of TRL's collator for padding-free training.
    """
    lengths = torch.tensor([len(one["input_ids"]) for one in examples])
    edges = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)]).to(torch.int32)
    longest = int(lengths.max())
    return {
        "input_ids": torch.tensor([[i for one in examples for i in one["input_ids"]]]),
        "labels": torch.tensor([[i for one in examples for i in one["labels"]]]),
        "position_ids": torch.cat([torch.arange(n) for n in lengths.tolist()])[None],
        "cu_seq_lens_q": edges,
        "cu_seq_lens_k": edges,
        "max_length_q": longest,
        "max_length_k": longest,
        "seq_idx": torch.repeat_interleave(torch.arange(len(examples), dtype=torch.int32), lengths)[None],
    }


_MIN_LOGIT_ROWS = 12
"""Minimum number of rows of logits. With fewer rows, unless their number is a multiple of 4, MKL's float32
product in the backward pass of the LM head adds up the whole vocabulary in one accumulator. With the 49,152
tokens of SmolLM2, this made gradients 2.4e-4 too large. Fewer rows are not faster: 3 or 11 rows take longer
than 12."""

_FLAG = "computes_examples_singly"


def compute_singly(model: Any) -> None:
    """Record that a model cannot keep packed examples apart, so that each example gets a separate forward
    pass."""
    setattr(model, _FLAG, True)


def computes_singly(model: Any) -> bool:
    """Return whether :func:`compute_singly` was called for ``model``, or for the base below its adapter."""
    return bool(getattr(model, _FLAG, False))


_FUSES_ABOVE = "fuses_head_above"


def fuse_head(model: Any, above: int = MOST_LOGITS) -> None:
    """Record that TRL's ``add_fused_lm_head`` was applied to a model, and that it computes the losses of a
    pass with more than ``above`` logits.

    The fused head computes logits in tiles, and again in the backward pass: three matrix multiplications
    instead of two, if the LM head is not trained. So logits are kept if there are few of them.
    """
    setattr(model, _FUSES_ABOVE, above)


def _fuses_head(model: Any, rows: int) -> bool:
    """Return whether the fused head computes the losses of a pass with ``rows`` labelled tokens.

    False if :func:`fuse_head` was not called, if an adapter changes the LM head, or if the model's
    configuration asks for router logits: the fused head computes a load-balancing loss that differs from that
    of some models.
    """
    base = getattr(model, "module", model)
    config, above = base.config.get_text_config(), getattr(base, _FUSES_ABOVE, None)
    if above is None or rows * config.vocab_size <= above:
        return False
    if getattr(config, "output_router_logits", False):
        return False
    return type(base.get_output_embeddings()) is torch.nn.Linear


class TokenLosses(NamedTuple):
    """The losses of all labelled tokens in one pass. ``losses`` and ``examples`` have the shape (labelled
    tokens,)."""

    losses: torch.Tensor
    """The negative log-probability of each labelled token."""
    examples: torch.Tensor
    """The index of each token's example."""
    balance: torch.Tensor | None
    """The load-balancing loss of a mixture of experts. None unless the inputs request router logits."""


def token_losses(model: Any, inputs: dict[str, Any]) -> TokenLosses:
    """Return the loss of every token with a label.

    ``inputs`` is one row of concatenated examples. Its ``labels`` may be removed. If examples need separate
    passes, the losses may have another order than the tokens in the row.

    The LM head is applied only at positions that predict a label. If completions are short, logits of all
    tokens would take most of the time on a CPU. On a GPU, they would need memory for tokens x vocabulary
    numbers. A pass with many logits uses a fused LM head, which does not keep them, see :func:`fuse_head`.
    The caller's precision is used, see :func:`tunegate_trainer.models.loading.training_precision`.
    """
    if computes_singly(getattr(model, "module", model)):
        return _token_losses_singly(model, inputs)
    sides = _sides(model, inputs)
    if len(sides) > 1:
        passes = [_packed_losses(model, select(inputs, side)) for side in sides]
        return _joined([_of_examples(found, side) for found, side in zip(passes, sides, strict=True)])
    return _packed_losses(model, inputs)


def _of_examples(found: TokenLosses, chosen: Sequence[int]) -> TokenLosses:
    """Return the losses of the ``chosen`` examples of a row, with the indices that they have in the row."""
    return found._replace(examples=torch.tensor(chosen, device=found.losses.device)[found.examples.long()])


def _packed_losses(model: Any, inputs: dict[str, Any]) -> TokenLosses:
    """Return the loss of every token with a label, computed in one pass."""
    row = inputs.pop("labels")
    labels = row[0, 1:]
    inputs |= _positions(model, inputs["position_ids"])
    predictors = (labels != IGNORED).nonzero().flatten()
    if not inputs.get("output_router_logits") and _fuses_head(model, len(predictors)):
        outputs = model(**inputs, labels=row, fused_lm_head=True)
        losses = -outputs.log_probs[0, predictors]
    else:
        outputs = model(**inputs, logits_to_keep=_padded(predictors), use_cache=False)
        losses = _cross_entropy(outputs.logits, labels[predictors])
    return TokenLosses(losses, inputs["seq_idx"][0, predictors], getattr(outputs, "aux_loss", None))


def _padded(predictors: torch.Tensor) -> torch.Tensor:
    """Return ``predictors``. If there are fewer than ``_MIN_LOGIT_ROWS``, other positions are added at the
    end."""
    return pad(predictors, (0, max(0, _MIN_LOGIT_ROWS - len(predictors))))


def _cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the loss of each label. ``logits`` has the shape (1, rows, vocabulary), with a row for each
    label, and possibly more rows, which are ignored."""
    return cross_entropy(logits[0, : len(labels)].float(), labels, reduction="none")


def _token_losses_singly(model: Any, inputs: dict[str, Any]) -> TokenLosses:
    """Return the same as :func:`token_losses`, but compute each example in a separate forward pass."""
    routes = {name: inputs[name] for name in ("output_router_logits",) if name in inputs}
    found = []
    for number, (start, end) in enumerate(pairwise(inputs["cu_seq_lens_q"].tolist())):
        labels = inputs["labels"][0, start + 1 : end]
        predictors = (labels != IGNORED).nonzero().flatten()
        if not len(predictors):
            continue
        ids = inputs["input_ids"][:, start:end]
        outputs = model(input_ids=ids, logits_to_keep=_padded(predictors), use_cache=False, **routes)
        losses = _cross_entropy(outputs.logits, labels[predictors])
        numbers = torch.full_like(predictors, number)
        found.append(TokenLosses(losses, numbers, getattr(outputs, "aux_loss", None)))
    return _joined(found)


def _joined(passes: Sequence[TokenLosses]) -> TokenLosses:
    """Return the losses of several passes. The load-balancing loss is their mean."""
    balances = [one.balance for one in passes if one.balance is not None]
    return TokenLosses(
        torch.cat([one.losses for one in passes]),
        torch.cat([one.examples for one in passes]),
        torch.stack(balances).mean() if balances else None,
    )


def _sides(model: Any, inputs: dict[str, Any]) -> list[list[int]]:
    """Return the indices of the examples on each side of the length at which the model's position embeddings
    change, see :func:`~tunegate_trainer.models.architecture.rope_switch`. The sides need separate passes."""
    edges = inputs["cu_seq_lens_q"][1:]
    switch = rope_switch(getattr(model, "module", model).config)
    if switch is None or "shared_prefixes" in inputs:  # examples with a shared prefix are on one side
        return [[*range(len(edges))]]
    lengths = (inputs["position_ids"][0, edges.long() - 1] + 1).tolist()
    short = [i for i, length in enumerate(lengths) if length <= switch]
    long = [i for i, length in enumerate(lengths) if length > switch]
    return [side for side in (short, long) if side]


def select(inputs: dict[str, Any], chosen: Sequence[int]) -> dict[str, Any]:
    """Return the row of the chosen examples, in the format of :func:`flatten`. Other inputs stay the same."""
    edges = inputs["cu_seq_lens_q"].tolist()
    lengths = [edges[i + 1] - edges[i] for i in chosen]
    kept = torch.cat([torch.arange(edges[i], edges[i + 1]) for i in chosen]).to(inputs["input_ids"].device)
    rows = {name: inputs[name][:, kept] for name in ("input_ids", "labels", "position_ids")}
    starts = inputs["cu_seq_lens_q"].new_tensor([0, *accumulate(lengths)])
    numbers = torch.repeat_interleave(torch.arange(len(chosen), dtype=torch.int32), torch.tensor(lengths))
    return {
        **inputs,
        **rows,
        "cu_seq_lens_q": starts,
        "cu_seq_lens_k": starts,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
        "seq_idx": numbers[None].to(inputs["input_ids"].device),
    }


def with_shared_prefixes(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Return ``inputs`` with each shared prefix only once, if the model allows this for these examples."""
    can_share = allows_shared_prefixes(model) and len(_sides(model, inputs)) == 1
    return share_prefixes(inputs) if can_share else inputs


def _positions(model: Any, position_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the position ids of packed text examples in the shape that the model expects.

    Models with M-RoPE take four rows: one that separates examples, and one each for time, height and width.
    For other models, return an empty dict, because ``position_ids`` already has the right shape.
    """
    config = getattr(model, "module", model).config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    rows = 4 if "mrope_section" in rope else 0
    return {"position_ids": position_ids.expand(rows, *position_ids.shape)} if rows else {}


def log_probs(model: Any, examples: Sequence[Example], ranks: Ranks = SINGLE_RANK) -> list[float]:
    """Return the log-probability of each example's completion, summed over its tokens.

    The model is not changed. A pass that does not fit the GPU is split into two, unless the model is sharded.
    Raises PyTorch's out-of-memory error if the pass cannot be split further.
    """
    found: dict[int, float] = {}
    with no_gradients(model):
        pending = deque(ranks.own_share(list(_batches(examples, _tokens_per_pass(model)))))
        while pending:
            # Sorted, so that examples with a common prefix are neighbors.
            batch = sorted(pending.popleft(), key=lambda i: examples[i]["input_ids"])
            try:
                sums = _sums(model, [examples[i] for i in batch])
            except RuntimeError as error:
                if not is_out_of_memory(error) or len(batch) == 1:
                    raise
                if is_sharded(model):  # all ranks must compute the same passes
                    raise
                pending.extendleft([batch[len(batch) // 2 :], batch[: len(batch) // 2]])
            else:
                found.update(zip(batch, sums, strict=True))
    found = ranks.merge(found)
    return [found[i] for i in range(len(examples))]


def _sums(model: Any, examples: Sequence[Example]) -> list[float]:
    """Return the log-probability of each completion, computed in one pass."""
    inputs = {
        name: value.to(model.device) if isinstance(value, torch.Tensor) else value
        for name, value in flatten(examples).items()
    }
    losses, numbers, _ = token_losses(model, with_shared_prefixes(model, inputs))
    sums: list[float] = (
        torch.zeros(len(examples), device=losses.device).index_add(0, numbers, -losses).tolist()
    )
    return sums


def _tokens_per_pass(model: Any) -> int:
    """Return the maximum number of tokens in a pass. It is small for a sharded model, whose passes cannot be
    split if they do not fit."""
    return TOKENS_PER_PASS["GPU" if model.device.type == "cuda" and not is_sharded(model) else "CPU"]


def _batches(examples: Sequence[Example], most: int) -> Iterator[list[int]]:
    """Return batches of indices of examples, longest examples first. A batch has at most ``most`` tokens.

    An example with more tokens gets a separate batch.
    """
    lengths = [len(example["input_ids"]) for example in examples]
    longest_first = sorted(range(len(examples)), key=lambda i: (-lengths[i], i))
    return batched(longest_first, len(examples), lengths.__getitem__, most)
