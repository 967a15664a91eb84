"""Split rows into train, dev and test by a hash of their groups, and find texts that are in two splits.

The split of a row (train, dev or test) is called its side.
"""

import hashlib
import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import takewhile
from typing import Generic, Protocol, TypeVar

from tunegate_api.verdict.outcomes import MAX_CASES


class Grouped(Protocol):
    """A row with a group. All rows of a group are on the same side."""

    @property
    def group(self) -> str: ...


RowT = TypeVar("RowT", bound=Grouped)
SIDES = ("train", "dev", "test")
HELD_OUT = ("dev", "test")
HASH_RANGE = 1 << 64
MIN_STRATUM = 10
MIN_GROUPS = 3
"""Strata with fewer rows or groups are not split by themselves: train, dev and test each need a group."""
_SALT = b"tunegate-sides-1"
"""The key of the hash. This key must never change, because another key would split all data differently."""


@dataclass(frozen=True)
class Split(Generic[RowT]):
    """The rows on each side (train, dev and test), in the order of the file. Every row is on exactly one
    side."""

    train: list[RowT]
    dev: list[RowT]
    test: list[RowT]

    def side(self, name: str) -> list[RowT]:
        """Return the rows on the side ``name``: ``train``, ``dev`` or ``test``."""
        return {"train": self.train, "dev": self.dev, "test": self.test}[name]


def normalize(text: str) -> str:
    """Normalize a prompt, so that a comparison ignores case, white space and equivalent Unicode forms."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_key(text: str) -> str:
    """Return a short digest of ``text``, a normalized prompt or a group. The digest is the same in all
    jobs."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def group_of(text: str) -> str:
    """Return the group that ``text`` names, as 32 hexadecimal digits: its hash, then its :func:`text_key`.

    The text itself may be a long prompt, and there may be a million groups.
    """
    position = hashlib.blake2b(text.encode(), digest_size=8, key=_SALT).hexdigest()
    return position + text_key(text)


def group_key(group: str) -> str:
    """Return the :func:`text_key` of the text that a group was made of."""
    return group[16:]


def join_groups(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Return the new group of each row. ``rows`` has the present group and the prompt of each row.

    Groups that share a prompt are joined into one group. Otherwise a held-out prompt could also be trained
    on. The joined group is the one with the lowest key, not the one with the lowest hash, which would be in
    dev more often than in test.
    """
    joined: dict[str, str] = {}

    def first(group: str) -> str:
        while joined.setdefault(group, group) != group:
            joined[group] = joined[joined[group]]
            group = joined[group]
        return group

    group_of_prompt: dict[str, str] = {}
    for group, prompt in rows:
        both = first(group), first(group_of_prompt.setdefault(prompt, group))
        one, other = sorted(both, key=lambda name: (group_key(name), name))
        joined[other] = one
    return [first(group) for group, _ in rows]


def split_rows(
    rows: Sequence[RowT],
    fraction: Fraction,
    placed: Mapping[str, str] | None = None,
    strata: Mapping[str, str] | None = None,
) -> Split[RowT]:
    """Hold out about ``fraction`` of ``rows``, in whole groups, half of them as dev and half as test.

    ``placed`` has the sides of groups whose side is already decided. The side of every other group depends
    on a hash of the group, not on the order of rows or a seed. Two exceptions keep the sizes of dev and test
    close to their target, which is ``fraction / 2`` of all rows. If dev or test would have less than half of
    its target, the next groups in the order of the hash are added to it. A group is not added if dev or test
    would then have more than twice its target, or more than ``MAX_CASES`` rows.

    ``strata`` has the stratum of groups, such as their label. The exceptions also apply to each stratum of at
    least ``MIN_STRATUM`` rows and ``MIN_GROUPS`` groups, with a target in proportion to its rows, so that it
    has rows in dev and test. But groups that are added for a stratum do not make dev or test larger than its
    target, or than the hash alone would make it: if there are many strata, some have no rows there.
    """
    sizes = Counter(row.group for row in rows)
    side_of = {group: side for group, side in (placed or {}).items() if group in sizes}
    order = sorted(sizes, key=lambda group: (hash_position(group), group))
    most, target = Fraction(largest_side(len(rows), fraction)), fraction * len(rows) / 2
    limits = _Limits.of(sizes, strata or {}, fraction)
    for side, groups in (("dev", order), ("test", order[::-1])):
        free = [group for group in groups if group not in side_of]
        held_out = Counter(dict.fromkeys(limits.most, 0))  # rows of each stratum
        for group, at in side_of.items():
            held_out[limits.stratum_of[group]] += sizes[group] if at == side else 0
        count = held_out.total()
        by_hash = _first_by_hash(free, side, fraction)
        limit = min(most, max(target, Fraction(count + sum(sizes[group] for group in by_hash))))
        for group in [*limits.minimum(free, sizes, held_out), *by_hash]:
            stratum, size = limits.stratum_of[group], sizes[group]
            fits = count + size <= limit and held_out[stratum] + size <= limits.most[stratum]
            if fits and group not in side_of:
                side_of[group] = side
                held_out[stratum] += size
                count += size
        for group in free:
            if count >= min(target / 2, most):
                break
            if group not in side_of and count + sizes[group] <= most:
                side_of[group] = side
                count += sizes[group]
    sides: dict[str, list[RowT]] = {"train": [], "dev": [], "test": []}
    for row in rows:
        sides[side_of.get(row.group, "train")].append(row)
    return Split(**sides)


@dataclass(frozen=True)
class _Limits:
    """The strata, and how many rows of each stratum dev and test should have."""

    stratum_of: Mapping[str, str]
    """The stratum of each group. Groups of small strata are in the stratum ``""``."""
    least: Mapping[str, Fraction]
    most: Mapping[str, int]

    @classmethod
    def of(cls, sizes: Mapping[str, int], strata: Mapping[str, str], fraction: Fraction) -> "_Limits":
        """Return the limits for groups of these sizes. A group of average size is within them."""
        stratum_of = {group: strata.get(group, "") for group in sizes}
        rows, groups = _totals(sizes, stratum_of)
        small = {name for name in rows if rows[name] < MIN_STRATUM or groups[name] < MIN_GROUPS}
        stratum_of = {group: "" if name in small else name for group, name in stratum_of.items()}
        rows, groups = _totals(sizes, stratum_of)
        total = sum(sizes.values())
        most = largest_side(total, fraction)
        return cls(
            stratum_of,
            {name: min(fraction * rows[name] / 4, Fraction(most)) for name in rows if name},
            {name: max(most * rows[name] // total, math.ceil(rows[name] / groups[name])) for name in rows},
        )

    def minimum(
        self, groups: Sequence[str], sizes: Mapping[str, int], held_out: Mapping[str, int]
    ) -> list[str]:
        """Return the first of ``groups`` that each stratum needs in addition to its ``held_out`` rows. The
        groups of strata without held-out rows come first."""
        counts = Counter(held_out)
        first: list[str] = []
        others: list[str] = []
        for group in groups:
            stratum = self.stratum_of[group]
            count = counts[stratum]
            if count < self.least.get(stratum, 0) and count + sizes[group] <= self.most[stratum]:
                (others if count else first).append(group)
                counts[stratum] += sizes[group]
        return first + others


def _totals(sizes: Mapping[str, int], stratum_of: Mapping[str, str]) -> tuple[Counter[str], Counter[str]]:
    """Return the number of rows and of groups of each stratum."""
    rows: Counter[str] = Counter()
    for group, stratum in stratum_of.items():
        rows[stratum] += sizes[group]
    return rows, Counter(stratum_of.values())


def _first_by_hash(groups: Sequence[str], side: str, fraction: Fraction) -> list[str]:
    """Return the first of ``groups``, in the order of their hashes, that the hash puts on ``side``."""
    return list(takewhile(lambda group: side_by_hash(group, fraction) == side, groups))


def largest_side(total: int, fraction: Fraction) -> int:
    """Return the maximum number of dev rows, and of test rows, if ``fraction`` of ``total`` rows is held
    out."""
    return min(math.floor(fraction * total), MAX_CASES)


def hash_position(group: str) -> int:
    """Return the hash of a group, in ``range(HASH_RANGE)``. The hash is the same in every job and version."""
    return int(group[:16], 16)


def side_by_hash(group: str, fraction: Fraction) -> str:
    """Return the side of a group: dev if its hash is among the lowest, test if among the highest, else train.

    If the fraction grows, more groups are held out, but none changes from dev to test or back.
    """
    ends = math.floor(fraction * HASH_RANGE / 2)
    position = hash_position(group)
    if position < ends:
        return "dev"
    return "test" if position >= HASH_RANGE - ends else "train"


def find_overlaps(sides: dict[str, list[str]]) -> list[str]:
    """Return the texts that are on more than one side, as ``text (side, side)``."""
    where: dict[str, set[str]] = defaultdict(set)
    for side, texts in sides.items():
        for text in texts:
            where[text].add(side)
    return [f"{text!r} ({', '.join(sorted(at))})" for text, at in sorted(where.items()) if len(at) > 1]
