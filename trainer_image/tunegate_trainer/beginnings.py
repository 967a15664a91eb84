"""Packed examples that begin alike: what they share is computed once.

A system message, an instruction, or the prompt of both answers of a pair: each token there has the same
hidden states in all of them, since it sees what stands before it alone. So the row holds it once, and the
parts behind go on from it: losses and gradients are the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch

from tunegate_trainer.examples import IGNORED, Example

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
    """Tokens ``start`` to ``end`` of an example, behind other parts of the new row."""

    example: int
    start: int
    end: int
    behind: tuple[int, ...] = ()


def share_beginnings(inputs: dict[str, Any]) -> dict[str, Any]:
    """The same row of concatenated examples, where what examples share stands once.

    ``inputs`` as :func:`tunegate_trainer.likelihood.flatten` makes it. Adds ``beginnings``, for
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
    starts = [edges[part.example] for part in parts]
    kept = torch.cat(
        [torch.arange(at + p.start, at + p.end) for at, p in zip(starts, parts, strict=True)]
    ).to(inputs["input_ids"].device)
    ends = [0, *accumulate(p.end - p.start for p in parts)]
    lengths = torch.tensor(ends, dtype=inputs["cu_seq_lens_q"].dtype)
    rows = {name: inputs[name][:, kept] for name in ("input_ids", "labels", "position_ids", "seq_idx")}
    return {
        **inputs,
        **rows,
        "cu_seq_lens_q": lengths,
        "cu_seq_lens_k": lengths,
        "beginnings": [[(ends[i], ends[i + 1]) for i in part.behind] for part in parts],
    }


def part_sizes(examples: Sequence[Example]) -> list[tuple[int, int]]:
    """Of each part of a row of ``examples`` that share their beginnings: its tokens, and how many these see,
    themselves included."""
    return [(part.end - part.start, part.end) for part in _parts(examples)]


def _unlabelled(labels: list[int]) -> int:
    """How many tokens of an example may be shared: its first label is predicted by a token of its own."""
    first = next((i for i, label in enumerate(labels) if label != IGNORED), len(labels))
    return max(0, first - 1)


def _parts(examples: Sequence[Example]) -> list[_Part]:
    limits = [_unlabelled(one["labels"]) for one in examples]
    return list(_divided([one["input_ids"] for one in examples], limits))


def _divided(examples: Sequence[list[int]], limits: Sequence[int]) -> Iterator[_Part]:
    """What all share, then of each two neighbours, as the answers of a pair are, what both share, and the
    rest of each."""
    number = 0  # of the next part
    behind: tuple[int, ...] = ()
    start = _common(examples, limits)
    if start * (len(examples) - 1) < _WORTH_SHARING:
        start = 0
    if start:
        yield _Part(0, 0, start)
        behind, number = (0,), 1
    for first in range(0, len(examples), 2):
        both = range(first, min(first + 2, len(examples)))
        middle, before = start, behind
        if len(both) == 2:
            middle = _common(examples[first : first + 2], limits[first : first + 2])
        if middle - start >= _WORTH_SHARING:
            yield _Part(first, start, middle, behind)
            before, number = (*behind, number), number + 1
        else:
            middle = start
        for example in both:
            yield _Part(example, middle, len(examples[example]), before)
            number += 1


def common_tokens(sequences: Sequence[list[int]]) -> int:
    """How many tokens all begin with, such as those of a system message."""
    first, last = min(sequences), max(sequences)  # in the order of lists these two differ earliest
    both = zip(first, last, strict=False)
    return next((i for i, (one, other) in enumerate(both) if one != other), len(first))


def _common(examples: Sequence[list[int]], limits: Sequence[int]) -> int:
    """How many tokens all begin with, within the limits."""
    return min(common_tokens(examples), *limits)
