"""Rows held out of training, and the proof that they are."""

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
    """A row that knows its group: rows of one group stay on one side."""

    @property
    def group(self) -> str: ...


RowT = TypeVar("RowT", bound=Grouped)
SIDES = ("train", "dev", "test")
HASH_RANGE = 1 << 64
_SALT = b"tunegate-sides-1"
"""The key of the hash. It never changes: another key is another split of everybody's data."""


@dataclass(frozen=True)
class Split(Generic[RowT]):
    """Every row on exactly one side, in the order of the file."""

    train: list[RowT]
    dev: list[RowT]
    test: list[RowT]

    def side(self, name: str) -> list[RowT]:
        """One of ``SIDES``."""
        return {"train": self.train, "dev": self.dev, "test": self.test}[name]


def normalize(text: str) -> str:
    """A prompt without what makes no difference: case, white space, and Unicode's ways to write the same."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_key(text: str) -> str:
    """A short digest of a normalized prompt or a group, to compare those of several jobs by."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def join_groups(rows: Sequence[tuple[str, str]]) -> list[str]:
    """The group of each row, given as group and prompt, so that equal prompts are in one group.

    Groups that share a prompt become one: apart, a held-out prompt could be trained on.
    """
    joined: dict[str, str] = {}

    def first(group: str) -> str:
        while joined.setdefault(group, group) != group:
            joined[group] = joined[joined[group]]
            group = joined[group]
        return group

    group_of_prompt: dict[str, str] = {}
    for group, prompt in rows:
        one, other = sorted((first(group), first(group_of_prompt.setdefault(prompt, group))))
        joined[other] = one
    return [first(group) for group, _ in rows]


def split_rows(
    rows: Sequence[RowT], fraction: Fraction, placed: Mapping[str, str] | None = None
) -> Split[RowT]:
    """Hold about ``fraction`` of ``rows`` out, whole groups at a time, about half as dev and half as test.

    Groups in ``placed`` are on the side that it names. A hash decides the side of every other group, by the
    group alone: other rows, their order and seeds change nothing. Only where a part would have fewer rows
    than half of its exact share, or more than twice, the next groups in the order of the hash are added, or
    the last are not. At most ``MAX_CASES`` rows are added to each of dev and test.
    """
    sizes = Counter(row.group for row in rows)
    side_of = {group: side for group, side in (placed or {}).items() if group in sizes}
    order = sorted(sizes.keys() - side_of.keys(), key=lambda group: (hash_position(group), group))
    most = min(math.floor(fraction * len(rows)), MAX_CASES)
    least = min(fraction * len(rows) / 4, Fraction(most))
    for side, groups in (("dev", order), ("test", order[::-1])):
        count = sum(sizes[group] for group, placed_on in side_of.items() if placed_on == side)
        for group in groups:
            if count >= least and side_by_hash(group, fraction) != side:
                break
            if group not in side_of and count + sizes[group] <= most:
                side_of[group] = side
                count += sizes[group]
    sides: dict[str, list[RowT]] = {"train": [], "dev": [], "test": []}
    for row in rows:
        sides[side_of.get(row.group, "train")].append(row)
    return Split(**sides)


def hash_position(group: str) -> int:
    """Where the hash puts a group, in ``range(HASH_RANGE)``: the same in every job and version."""
    return int.from_bytes(hashlib.blake2b(group.encode(), digest_size=8, key=_SALT).digest(), "big")


def side_by_hash(group: str, fraction: Fraction) -> str:
    """The side of a group: dev at the lower end of the hash's range, test at the upper end, train between.

    A larger fraction holds more groups out, and no group changes from dev to test.
    """
    ends = math.floor(fraction * HASH_RANGE / 2)
    position = hash_position(group)
    if position < ends:
        return "dev"
    return "test" if position >= HASH_RANGE - ends else "train"


def find_overlaps(sides: dict[str, list[str]]) -> list[str]:
    """Texts that stand on more than one side, as ``text (side, side)``. An empty list is the proof."""
    where: dict[str, set[str]] = defaultdict(set)
    for side, texts in sides.items():
        for text in texts:
            where[text].add(side)
    return [f"{text!r} ({', '.join(sorted(at))})" for text, at in sorted(where.items()) if len(at) > 1]
