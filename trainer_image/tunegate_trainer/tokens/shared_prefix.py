"""Packed examples that begin alike: what they share is computed once.

A system message, an instruction, or the prompt of both answers of a pair: each token there has the same
hidden states in all of them, since it sees what stands before it alone. So the row holds it once, and the
parts behind go on from it: losses and gradients are the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch

from tunegate_trainer.tokens.examples import IGNORED, Example

_WORTH_SHARING = 16
"""Tokens that a part must save: its attention is a call of its own in each layer."""


_FLAG = "shares_beginnings"


def let_share(model: Any) -> None:
    """Note that a model, or one with an adapter around it, computes the same where beginnings are shared."""
    setattr(model, _FLAG, True)


def shares_beginnings(model: Any) -> bool:
    """Whether that was noted."""
    return bool(getattr(model, _FLAG, False))


@dataclass(frozen=True)
class _Part:
    """Tokens ``start`` to ``end`` of an example, which go on from the parts of those numbers."""

    example: int
    start: int
    end: int
    behind: tuple[int, ...] = ()


def share_beginnings(inputs: dict[str, Any]) -> dict[str, Any]:
    """The same row of concatenated examples, where what examples share stands once.

    ``inputs`` as :func:`tunegate_trainer.tokens.likelihood.flatten` makes it. Adds ``beginnings``, for
    :func:`tunegate_trainer.train.attention.attend_by_example`, where something is shared. No label is, nor
    what predicts the first one.
    """
    edges = inputs["cu_seq_lens_q"].tolist()
    ids, labels = inputs["input_ids"][0].tolist(), inputs["labels"][0].tolist()
    examples: list[Example] = [
        {"input_ids": ids[start:end], "labels": labels[start:end]} for start, end in pairwise(edges)
    ]
    parts = _parts(examples)
    if len(parts) == len(examples):
        return inputs
    kept = torch.cat(
        [torch.arange(p.start, p.end) + edges[p.example] for p in parts],
    ).to(inputs["input_ids"].device)
    rows = {name: inputs[name][:, kept] for name in ("input_ids", "labels", "position_ids", "seq_idx")}
    ends = [0, *accumulate(p.end - p.start for p in parts)]
    cu_seq_lens = torch.tensor(ends, dtype=inputs["cu_seq_lens_q"].dtype)
    return {
        **inputs,
        **rows,
        "cu_seq_lens_q": cu_seq_lens,
        "cu_seq_lens_k": cu_seq_lens,
        "beginnings": [part.behind for part in parts],
    }


def part_sizes(examples: Sequence[Example]) -> list[tuple[int, int]]:
    """Of each part of a row of ``examples`` that share their beginnings: its tokens, and how many these see,
    themselves included."""
    return [(part.end - part.start, part.end) for part in _parts(examples)]


def _parts(examples: Sequence[Example]) -> list[_Part]:
    """What all share, then of each two neighbours, as the answers of a pair are, what both share, and the
    rest of each."""
    parts: list[_Part] = []
    shared = _common(examples)
    if shared * (len(examples) - 1) < _WORTH_SHARING:
        shared = 0
    if shared:
        parts.append(_Part(0, 0, shared))
    of_all = tuple(range(len(parts)))
    for first in range(0, len(examples), 2):
        both = examples[first : first + 2]
        start, behind = shared, of_all
        if len(both) == 2 and _common(both) - shared >= _WORTH_SHARING:
            start, behind = _common(both), (*of_all, len(parts))
            parts.append(_Part(first, shared, start, of_all))
        parts += [_Part(first + i, start, len(one["input_ids"]), behind) for i, one in enumerate(both)]
    return parts


def _common(examples: Sequence[Example]) -> int:
    """How many tokens all begin with, but for labels and what predicts the first of them."""
    return min(common_tokens([one["input_ids"] for one in examples]), *map(_unlabelled, examples))


def _unlabelled(one: Example) -> int:
    """How many tokens of an example may be shared: its first label is predicted by a token of its own."""
    labels = one["labels"]
    first = next((i for i, label in enumerate(labels) if label != IGNORED), len(labels))
    return max(0, first - 1)


def common_tokens(sequences: Sequence[list[int]]) -> int:
    """How many tokens all begin with, such as those of a system message."""
    first, last = min(sequences), max(sequences)  # in the order of lists these two differ earliest
    both = zip(first, last, strict=False)
    return next((i for i, (one, other) in enumerate(both) if one != other), len(first))
