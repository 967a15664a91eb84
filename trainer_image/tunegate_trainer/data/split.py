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
from typing import Generic, Protocol, TypeVar

from tunegate_api.judging.verdict import MAX_CASES


class Grouped(Protocol):
    """A row with a group. All rows of a group are on the same side."""

    @property
    def group(self) -> str: ...


RowT = TypeVar("RowT", bound=Grouped)
SIDES = ("train", "dev", "test")
HASH_RANGE = 1 << 64
MIN_STRATUM = 10
"""Labels with fewer rows are not split by themselves."""
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

    ``strata`` has the stratum of groups, such as their label. Each stratum of at least ``MIN_STRATUM`` rows
    is split by itself in the same way, and gets at least one row in dev and in test. All other groups are one
    stratum.
    """
    sizes = Counter(row.group for row in rows)
    side_of = {group: side for group, side in (placed or {}).items() if group in sizes}
    most = largest_side(len(rows), fraction)
    by_stratum = _strata(sizes, strata or {})
    room = {
        side: max(most, len(by_stratum)) - sum(sizes[g] for g, at in side_of.items() if at == side)
        for side in ("dev", "test")
    }
    for stratum in by_stratum:
        order = sorted(stratum, key=lambda group: (hash_position(group), group))
        total = sum(sizes[group] for group in stratum)
        most_of_stratum = max(most * total // len(rows), int(total >= MIN_STRATUM and most > 0))
        least = min(fraction * total / 4, Fraction(most_of_stratum))
        for side, groups in (("dev", order), ("test", order[::-1])):
            count = sum(sizes[group] for group in stratum if side_of.get(group) == side)
            for group in groups:
                if count >= least and side_by_hash(group, fraction) != side:
                    break
                if group not in side_of and sizes[group] <= min(most_of_stratum - count, room[side]):
                    side_of[group] = side
                    count += sizes[group]
                    room[side] -= sizes[group]
    sides: dict[str, list[RowT]] = {"train": [], "dev": [], "test": []}
    for row in rows:
        sides[side_of.get(row.group, "train")].append(row)
    return Split(**sides)


def _strata(sizes: Mapping[str, int], strata: Mapping[str, str]) -> list[list[str]]:
    """Return the groups of each stratum, the smallest stratum first, because the largest can best spare a row
    if there are too many held-out rows."""
    rows: Counter[str] = Counter()
    for group, size in sizes.items():
        rows[strata.get(group, "")] += size
    members: dict[str, list[str]] = defaultdict(list)
    for group in sizes:
        stratum = strata.get(group, "")
        members[stratum if rows[stratum] >= MIN_STRATUM else ""].append(group)
    return [members[stratum] for stratum in sorted(members, key=lambda name: (rows[name], name))]


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
