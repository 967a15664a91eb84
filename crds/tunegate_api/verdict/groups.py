"""Groups of golden cases, such as variants of one prompt, whose outcomes are not independent. No I/O."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

Weight = TypeVar("Weight", int, float)


def group_sizes(total: int, groups: Sequence[int]) -> tuple[int, ...]:
    """Return the number of cases of each group of a set with ``total`` cases, sorted. ``groups`` has the
    number of each case's group. Returns an empty tuple if no two cases are in one group, and if the numbers
    do not match the cases."""
    return tuple(sorted(Counter(groups).values())) if len(groups) == total else ()


def independent_cases(total: int, groups: Sequence[int]) -> int:
    """Return how many independent cases ``total`` cases are worth, if all cases of a group have the same
    outcome: n² / Σ s² of ``n`` cases in groups of ``s``, rounded down (Kish, Survey Sampling, 1965).
    ``groups`` has the number of each case's group. If the numbers do not match the cases, it is 1."""
    if not groups:
        return total
    if len(groups) != total:
        return min(total, 1)
    return total * total // sum(size * size for size in Counter(groups).values())


def independent_among(part: int, total: int, groups: Sequence[int]) -> int:
    """Return how many independent cases ``part`` of ``total`` cases are worth, see
    :func:`independent_cases`: at least 1."""
    return max(1, independent_cases(total, groups) * part // max(1, total))


def changed_together(
    sizes: Sequence[int], chances: Callable[[int, int], Iterable[Weight]], most: int
) -> list[Weight]:
    """Return the probabilities that 0 to ``most`` cases change, if all cases of a group change together, and
    groups are independent.

    ``chances(count, most)`` are the probabilities that 0 to ``most`` of ``count`` groups change. They can be
    in any unit, so that integers give exact results: the results are in the product of the units of all
    sizes.
    """
    found: dict[int, Weight] = {0: 1}
    for size, count in Counter(sizes).items():
        here = list(chances(count, min(count, most // size)))
        longer: dict[int, Weight] = {}
        for changed, before in found.items():
            for number, chance in enumerate(here[: (most - changed) // size + 1]):
                place = changed + number * size
                longer[place] = longer.get(place, 0) + before * chance
        found = longer
    return [found.get(number, 0) for number in range(most + 1)]
