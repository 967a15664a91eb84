"""Cut a stream of items into batches that fit into memory."""

from collections.abc import Callable, Iterable, Iterator
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
