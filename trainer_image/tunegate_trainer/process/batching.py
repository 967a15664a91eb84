"""Divide items into batches that fit into memory."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

MAX_CHARACTERS = 8 << 20
"""Maximum number of characters in a batch of texts."""
ItemT = TypeVar("ItemT")


def batched(
    items: Iterable[ItemT], most: int, size_of: Callable[[ItemT], int], max_size: int = MAX_CHARACTERS
) -> Iterator[list[ItemT]]:
    """Yield batches of up to ``most`` items. The sizes of the items in a batch add up to at most
    ``max_size``, unless it has only one item."""
    batch: list[ItemT] = []
    total = 0
    for item in items:
        size = size_of(item)
        if batch and (len(batch) == most or total + size > max_size):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size
    if batch:
        yield batch


def balanced(sizes: Sequence[int], max_size: int, at_least: int = 1) -> list[list[int]]:
    """Divide items with these ``sizes`` into few groups of about equal total size, and return the indices of
    the items in each group. The sizes of the items in a group add up to at most ``max_size``, unless it has
    only one item.

    Items are assigned in descending order of size, each to the group with the smallest total (longest
    processing time first: Graham, 1969), with as many groups as this needs, but not fewer than ``at_least``.
    If any k items fit a group, n * k items are divided into at most n groups: before the last item is
    assigned, some group has fewer than k items.
    """
    order = sorted(range(len(sizes)), key=lambda i: -sizes[i])
    fitting = [size for size in sizes if size <= max_size]
    fewest = len(sizes) - len(fitting) + (math.ceil(sum(fitting) / max_size) if fitting else 0)
    for count in range(max(at_least, fewest, 1), len(sizes)):
        groups: list[list[int]] = [[] for _ in range(count)]
        totals = [0] * count
        for i in order:
            smallest = totals.index(min(totals))
            groups[smallest].append(i)
            totals[smallest] += sizes[i]
        if all(total <= max_size or len(group) == 1 for total, group in zip(totals, groups, strict=True)):
            return sorted(sorted(group) for group in groups)
    return [[i] for i in range(len(sizes))]
