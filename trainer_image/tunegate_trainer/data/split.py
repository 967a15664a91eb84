"""Rows held away from training, and the proof that they are."""

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, Protocol, TypeVar

from tunegate_api.verdict import MAX_CASES


class Grouped(Protocol):
    """A row that knows its group: rows of one group stay on one side."""

    @property
    def group(self) -> str: ...


RowT = TypeVar("RowT", bound=Grouped)
SIDES = ("train", "dev", "test")


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


def split_rows(rows: Sequence[RowT], fraction: Fraction, seed: int) -> Split[RowT]:
    """Hold ``fraction`` of ``rows`` away, whole groups at a time, half as dev and half as test.

    Groups are taken in the order of a hash keyed by ``seed``: the same rows and seed give the same split, in
    whatever order the rows come, and a row added to the data moves few others. At most ``MAX_CASES`` rows
    go to each of dev and test; what is more trains.
    """
    sizes: dict[str, int] = defaultdict(int)
    for row in rows:
        sizes[row.group] += 1
    wanted = min(round(fraction * len(rows)), 2 * MAX_CASES)
    held: dict[str, str] = {}
    counts = {"dev": 0, "test": 0}
    for group in sorted(sizes, key=lambda g: hashlib.sha256(f"{seed}:{g}".encode()).digest()):
        side = "dev" if counts["dev"] <= counts["test"] else "test"
        if sum(counts.values()) + sizes[group] <= wanted and counts[side] + sizes[group] <= MAX_CASES:
            held[group] = side
            counts[side] += sizes[group]
    sides: dict[str, list[RowT]] = {"train": [], "dev": [], "test": []}
    for row in rows:
        sides[held.get(row.group, "train")].append(row)
    return Split(**sides)


def split_pairs(pairs: Sequence[RowT], held: Mapping[str, str], fraction: Fraction, seed: int) -> Split[RowT]:
    """Hold pairs away by their groups.

    ``held`` tells where a group already is, ``train``, ``dev`` or ``test``, and a pair goes where its group
    is. Of the others as many are held away as ``fraction`` still lacks, as in :func:`split_rows`.
    """
    free = [pair for pair in pairs if pair.group not in held]
    lacking = round(fraction * len(pairs)) - sum(held.get(pair.group) in ("dev", "test") for pair in pairs)
    share = Fraction(max(0, lacking), len(free)) if free else Fraction(0)
    chosen = split_rows(free, share, seed)
    placed = dict(held)
    for side in SIDES:
        placed |= {pair.group: side for pair in chosen.side(side)}
    sides: dict[str, list[RowT]] = {"train": [], "dev": [], "test": []}
    for pair in pairs:
        sides[placed[pair.group]].append(pair)
    return Split(**sides)


def find_overlaps(sides: dict[str, list[str]]) -> list[str]:
    """Texts that stand on more than one side, as ``text (side, side)``. An empty list is the proof."""
    where: dict[str, set[str]] = defaultdict(set)
    for side, texts in sides.items():
        for text in texts:
            where[text].add(side)
    return [f"{text!r} ({', '.join(sorted(at))})" for text, at in sorted(where.items()) if len(at) > 1]
