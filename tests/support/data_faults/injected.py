"""A data set with one kind of fault, and the lines that have it."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Row = dict[str, str]
"""A row of training data: prompt and completion."""


@dataclass(frozen=True)
class Injected:
    """Rows, and the ground truth about their fault. Lines are counted from 1."""

    rows: tuple[Row, ...]
    faulty: frozenset[int]
    """The lines that have the fault. Of two rows that are too similar, this is the later one."""
    originals: Mapping[int, int] = field(default_factory=dict)
    """The line of the row from which the row of a line was made."""
    held_out: tuple[Row, ...] = ()
    """Rows of a golden set or of held-out data, which must not be in ``rows``."""
    leaked: frozenset[int] = frozenset()
    """The lines of ``held_out`` that are in ``rows``."""


def changed(
    rows: Sequence[Row],
    change: Callable[[Row, random.Random], Row],
    *,
    count: int,
    seed: int | str,
    usable: Sequence[int] | None = None,
) -> Injected:
    """Change ``count`` random rows. ``usable`` are the indices of the rows that can be changed.

    Raises ValueError if there are fewer than ``count``."""
    order = random.Random(seed)
    candidates = range(len(rows)) if usable is None else usable
    if len(candidates) < count:
        raise ValueError(f"only {len(candidates)} rows can be changed, but {count} are needed")
    chosen = set(order.sample(candidates, count))
    made = tuple(change(row, order) if i in chosen else row for i, row in enumerate(rows))
    return Injected(made, frozenset(i + 1 for i in chosen))


def inserted(rows: Sequence[Row], added: Sequence[tuple[Row, int]], order: random.Random) -> Injected:
    """Insert rows at random places. Each is given with the index of its original, and comes after it."""
    keyed = [(float(i), i, row, -1) for i, row in enumerate(rows)]
    for number, (row, original) in enumerate(added):
        keyed.append((order.uniform(original, len(rows)), len(rows) + number, row, original))
    keyed.sort(key=lambda item: item[:2])
    line_of = {index: line for line, (_, index, _, _) in enumerate(keyed, start=1)}
    originals = {line_of[index]: line_of[original] for _, index, _, original in keyed if original >= 0}
    return Injected(tuple(row for _, _, row, _ in keyed), frozenset(originals), originals)
