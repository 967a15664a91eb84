"""Shared prefixes of packed examples: tokens that several examples start with are computed once.

A shared prefix is, for example, a system message, an instruction, or the prompt of both answers in a pair.
Each token of a prefix has the same hidden states in every example, because a token attends only to earlier
tokens. The row therefore contains the prefix once, and the rest of each example attends to it. Losses and
gradients stay the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch

from tunegate_trainer.tokens.examples import IGNORED, Example

_WORTH_SHARING = 16
"""Minimum number of tokens that sharing a prefix must save, because each segment needs one more attention
call per layer."""


_FLAG = "allows_shared_prefixes"


def allow_shared_prefixes(model: Any) -> None:
    """Record that a model, or the base inside an adapter, computes the same losses with shared prefixes."""
    setattr(model, _FLAG, True)


def allows_shared_prefixes(model: Any) -> bool:
    """Return whether :func:`allow_shared_prefixes` was called for a model, or the base inside an adapter."""
    return bool(getattr(model, _FLAG, False))


@dataclass(frozen=True)
class _Segment:
    """The tokens from ``start`` to ``end`` (exclusive) of an example. ``prefix`` has the indices of the
    segments that contain the earlier tokens of this example."""

    example: int
    start: int
    end: int
    prefix: tuple[int, ...] = ()


def share_prefixes(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return ``inputs``, a row of concatenated examples, changed so that it contains each shared prefix only
    once.

    ``inputs`` has the format of :func:`tunegate_trainer.tokens.likelihood.flatten`. If a prefix is shared,
    the result also has ``shared_prefixes``, for each segment the indices of the segments that are its prefix,
    and ``shared_keys``, the indices of the tokens that the segments attend to, one segment after another.
    :mod:`tunegate_trainer.train.attention` reads them. A prefix ends before the token that predicts the first
    label, so no label is shared.
    """
    edges = inputs["cu_seq_lens_q"].tolist()
    ids, labels = inputs["input_ids"][0].tolist(), inputs["labels"][0].tolist()
    examples: list[Example] = [
        {"input_ids": ids[start:end], "labels": labels[start:end]} for start, end in pairwise(edges)
    ]
    segments = _segments(examples)
    if len(segments) == len(examples):
        return inputs
    kept = torch.cat(
        [torch.arange(s.start, s.end) + edges[s.example] for s in segments],
    ).to(inputs["input_ids"].device)
    rows = {name: inputs[name][:, kept] for name in ("input_ids", "labels", "position_ids", "seq_idx")}
    ends = [0, *accumulate(s.end - s.start for s in segments)]
    read = [
        torch.cat([torch.arange(*ends[n : n + 2]) for n in (*segment.prefix, i)])
        for i, segment in enumerate(segments)
    ]
    edges_like = inputs["cu_seq_lens_q"].new_tensor
    return {
        **inputs,
        **rows,
        "cu_seq_lens_q": edges_like(ends),
        "cu_seq_lens_k": edges_like([0, *accumulate(map(len, read))]),
        "max_length_k": max(map(len, read)),
        "shared_prefixes": [segment.prefix for segment in segments],
        "shared_keys": torch.cat(read).to(inputs["input_ids"].device),
    }


def segment_sizes(examples: Sequence[Example]) -> list[tuple[int, int]]:
    """Return two numbers for each segment of ``examples`` with shared prefixes: the number of its tokens, and
    the number of tokens that its last token attends to, including the prefix and the token itself."""
    return [(segment.end - segment.start, segment.end) for segment in _segments(examples)]


def _segments(examples: Sequence[Example]) -> list[_Segment]:
    """Divide examples into segments: a prefix that all examples share, for every two consecutive examples
    (0 and 1, 2 and 3, ...) a further prefix that these two share, and the rest of each example.

    For DPO, the two consecutive examples are a pair. A prefix that is too short is not shared.
    """
    segments: list[_Segment] = []
    shared = _prefix_length(examples)
    if shared * (len(examples) - 1) < _WORTH_SHARING:
        shared = 0
    if shared:
        segments.append(_Segment(0, 0, shared))
    of_all = tuple(range(len(segments)))
    for first in range(0, len(examples), 2):
        both = examples[first : first + 2]
        start, prefix = shared, of_all
        if len(both) == 2 and _prefix_length(both) - shared >= _WORTH_SHARING:
            start, prefix = _prefix_length(both), (*of_all, len(segments))
            segments.append(_Segment(first, shared, start, of_all))
        segments += [_Segment(first + i, start, len(one["input_ids"]), prefix) for i, one in enumerate(both)]
    return segments


def _prefix_length(examples: Sequence[Example]) -> int:
    """Return how many tokens the examples can share as their prefix."""
    return min(common_prefix_length([one["input_ids"] for one in examples]), *map(_sharable, examples))


def _sharable(one: Example) -> int:
    """Return how many tokens of an example may be shared: those before the predictor of the first label."""
    labels = one["labels"]
    first = next((i for i, label in enumerate(labels) if label != IGNORED), len(labels))
    return max(0, first - 1)


def common_prefix_length(sequences: Sequence[list[int]]) -> int:
    """Return the length in tokens of the longest prefix that all ``sequences`` share."""
    first, last = min(sequences), max(sequences)  # in sort order, these two have the shortest common prefix
    both = zip(first, last, strict=False)
    return next((i for i, (one, other) in enumerate(both) if one != other), len(first))
