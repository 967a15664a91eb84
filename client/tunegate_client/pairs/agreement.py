"""How much raters agree, for each two of them.

Kendall's tau-b is 1 for the same order, -1 for the reverse order, and about 0 for independent orders:
Kendall 1945, "The treatment of ties in ranking problems", Biometrika 33(3).
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

from tunegate_api.preference import Ranking

Places = Mapping[str, int]
"""The place of each completion in the ranking of a prompt."""


@dataclass(frozen=True)
class PairAgreement:
    """The agreement of two raters on the completions that both ranked."""

    raters: tuple[str, str]
    tau: float | None
    """Kendall's tau-b, averaged over prompts. None if it is not defined for any prompt."""
    same: int
    """Number of pairs of completions for which both prefer the same one, or neither."""
    compared: int
    """Number of pairs of completions that both ranked."""


def agreements(rankings: Iterable[Ranking]) -> list[PairAgreement]:
    """Return the agreement of each two raters who ranked the same two completions, sorted by their names."""
    of_rater = defaultdict[str, dict[str, Places]](dict)
    for ranking in rankings:
        of_rater[ranking.rater][ranking.id] = ranking.places
    found = (
        _agreement(pair, *(of_rater[name] for name in pair)) for pair in combinations(sorted(of_rater), 2)
    )
    return [one for one in found if one.compared]


def tau_b(first: Places, second: Places) -> float | None:
    """Return Kendall's tau-b of two rankings over the completions in both. It is not defined, and None, if
    all of these are equal in one of the rankings."""
    orders = _orders(first, second)
    agreeing = sum(one * other for one, other in orders)
    ordered = math.sqrt(sum(one != 0 for one, _ in orders) * sum(other != 0 for _, other in orders))
    return agreeing / ordered if ordered else None


def _agreement(
    raters: tuple[str, str], first: Mapping[str, Places], second: Mapping[str, Places]
) -> PairAgreement:
    shared = sorted(first.keys() & second.keys())
    taus = [tau for id in shared if (tau := tau_b(first[id], second[id])) is not None]
    orders = [order for id in shared for order in _orders(first[id], second[id])]
    return PairAgreement(
        raters,
        sum(taus) / len(taus) if taus else None,
        sum(one == other for one, other in orders),
        len(orders),
    )


def _orders(first: Places, second: Places) -> list[tuple[int, int]]:
    """Return the order of each two completions in both rankings: 1, -1, or 0 if they are equal."""
    pairs = combinations(sorted(first.keys() & second.keys()), 2)
    return [(_sign(first[b] - first[a]), _sign(second[b] - second[a])) for a, b in pairs]


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
