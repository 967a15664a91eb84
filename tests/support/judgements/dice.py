"""Random choices that are the same in every version of Python, and random outcomes near limits."""

from collections.abc import Sequence
from fractions import Fraction
from math import ceil
from random import Random
from typing import Any, TypeVar

_Item = TypeVar("_Item")


class Dice:
    """Choices from a seed. Only :meth:`random.Random.random` is promised to stay the same."""

    def __init__(self, seed: str) -> None:
        self._random = Random(seed)

    def chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def between(self, low: int, high: int) -> int:
        """Return a number from ``low`` to ``high``, both included."""
        return low + int(self._random.random() * (max(low, high) - low + 1))

    def pick(self, items: Sequence[_Item]) -> _Item:
        return items[self.between(0, len(items) - 1)]

    def some(self, items: Sequence[_Item], probability: float) -> list[_Item]:
        return [each for each in items if self.chance(probability)]

    def sample(self, items: Sequence[_Item], count: int) -> list[_Item]:
        left = list(items)
        return [left.pop(self.between(0, len(left) - 1)) for _ in range(min(count, len(left)))]


def outcomes(dice: Dice, total: int) -> str:
    """Return outcomes, usually all of them measured."""
    share = dice.pick([0.5, 0.8, 0.9, 0.95, 1.0])
    letters = "".join("p" if dice.chance(share) else "f" for _ in range(total))
    return faulty(dice, letters)


def faulty(dice: Dice, letters: str) -> str:
    """Return the outcomes, a few of them truncated or not measured; rarely with a wrong length."""
    if dice.chance(0.12):
        letters = _replaced(dice, letters, "t", dice.pick([1, 1, 2, max(1, len(letters) // 15)]))
    if dice.chance(0.07):
        letters = _replaced(dice, letters, dice.pick("eee?s"), dice.between(1, 2))
    if dice.chance(0.01):
        letters = dice.pick(["", letters[:-1], letters + "p"])
    return letters


def _replaced(dice: Dice, letters: str, letter: str, count: int) -> str:
    found = list(letters)
    for position in dice.sample(range(len(found)), count):
        found[position] = letter
    return "".join(found)


def changed(dice: Dice, before: str, points: Fraction) -> str:
    """Return outcomes whose drop below the outcomes ``before`` is often close to ``points`` percentage
    points."""
    limit = ceil(points * len(before) / 100)
    drop = dice.pick([limit - 1, limit - 1, limit, limit + 1, 0, 0, -1, 1])
    improved = dice.pick([0, 0, 0, 1, 2, len(before) // 20])
    return faulty(dice, flipped(dice, before, max(0, drop) + improved, improved + max(0, -drop)))


def flipped(dice: Dice, before: str, regressed: int, improved: int) -> str:
    found = list(before)
    passing = [i for i, letter in enumerate(before) if letter == "p"]
    others = [i for i, letter in enumerate(before) if letter != "p"]
    for i in dice.sample(passing, regressed):
        found[i] = dice.pick("fffft")
    for i in dice.sample(others, improved):
        found[i] = "p"
    return "".join(found)


def share_near(dice: Dice, passed: int, total: int) -> str:
    """Return a minimum close to the share of the passed cases, as a decimal."""
    near = passed + dice.pick([-3, -2, -1, -1, 0, 0, 1])
    thousandths = 1000 * near // max(1, total) + dice.pick([0, 0, 0, 1, -1])
    return f"{min(1000, max(0, thousandths)) / 1000:.3f}"


def points(dice: Dice) -> str:
    return dice.pick(["5", "5", "5", "5", "10", "10", "10", "20", "2.5", "33.3", "1", "100"])


def common(dice: Dice, names: Sequence[str]) -> dict[str, Any]:
    """Return the rules that name cases."""
    return {
        "mustPass": dice.some(names, 0.12)[:3],
        "advisory": dice.some(names, 0.12)[:3],
        "requiredTags": dice.some([name for name in names if "-" not in name], 0.05)[:2],
    }
