"""Group prompts by their templates, see :func:`group_prompts` for the rule."""

from array import array
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tunegate_api.messages import Message
from tunegate_trainer.checks.prompt_parts import (
    ENDINGS,
    OPENINGS,
    WORDS,
    PromptParts,
    endings,
    openings,
    prompt_parts,
    system_text,
    user_text,
    words,
)

MAJORITY = 0.5
"""Minimum share of prompts with an opening or an ending that belongs to the template of most prompts."""
FREQUENT = 0.05
"""Minimum share of prompts with a part that could also be content, so that it belongs to a template."""
_AHEAD = 3
"""Such a part is also this number of times as frequent as each part that belongs to no template. Otherwise
the parts are content that is repeated, such as documents with several questions about each."""
_LEAST_PROMPTS = 5
"""Minimum number of prompts with such a part."""
_SAME_WORDS = 0.7
"""Minimum share of the words of a template's opening or ending in a variant of it."""
_SAME_SYSTEM = 0.8
"""Minimum share of words that two variants of a system turn have in common."""
_NO_SYSTEM, _OTHER_SYSTEM = -1, -2
"""Groups of system turns: none, and one that few prompts have."""

Numbers = NDArray[np.int64]
Prompts = Sequence[list[Message]]


def group_prompts(prompts: Prompts) -> Numbers:
    """Return the number of each prompt's template. Template 0 is that of most prompts.

    Two prompts have the same template if they agree in all of these parts:

    - The system turn. Variants that share most words or the first eight words are one system turn. All
      system turns that are not frequent, such as documents, count as one.
    - The first and the last mark in the first user turn, and whether it has special tokens of a chat format.
      Marks are these tokens, headings such as ``### Instruction:``, and names of roles or fields such as
      ``Question:``. If frequent, a markup tag around the text, the first label of a form with several labels,
      and a last line with only a label are marks too.
    - The opening and the ending: a line, a sentence or eight words that at least half of the prompts start or
      end with. If there is neither, then it is a frequent first or last line of eight words or more.

    A part is frequent if at least 5 % of the prompts have it, and if it is at least three times as frequent
    as every other part of its kind that is not. Frequent tags, labels and lines are content if no tag, label
    or line, or the lack of one, is in half of the prompts.

    All other text is content. So prompts in free wording, or in several wordings none of which is in half of
    the prompts, have one template. If a prompt is repeated, the parts of templates are counted in it once.
    """
    table = _Table(prompts)
    number = _combined(table.systems(), *table.marks, *table.wording())
    _, first, counts = np.unique(number, return_index=True, return_counts=True)
    rank = np.empty_like(first)
    rank[np.lexsort((first, -counts))] = np.arange(len(first))
    return rank[number]


@dataclass
class _Table:
    """The parts of all prompts, as one array for each part."""

    prompts: Prompts

    @cached_property
    def parts(self) -> dict[str, Numbers]:
        columns = [array("q") for _ in PromptParts._fields]
        for prompt in self.prompts:
            for column, part in zip(columns, prompt_parts(prompt), strict=True):
                column.append(part)
        return {
            name: np.frombuffer(column, dtype=np.int64)
            for name, column in zip(PromptParts._fields, columns, strict=True)
        }

    @cached_property
    def distinct(self) -> Numbers:
        """The index of the first prompt of each group of equal prompts."""
        return np.unique(self.parts["prompt"], return_index=True)[1]

    def counts(self, name: str, share: float) -> tuple[dict[int, int], int]:
        """Return the numbers of a part that at least this share of the distinct prompts have, the most
        frequent one first, and how many prompts have each. Also returns how many prompts have the most
        frequent one of the other numbers."""
        values, counts = np.unique(self.parts[name][self.distinct], return_counts=True)
        values, counts = values[values != 0], counts[values != 0]
        kept = counts >= max(_LEAST_PROMPTS, share * len(self.distinct))
        found = zip(values[kept].tolist(), counts[kept].tolist(), strict=True)
        ranked = sorted(found, key=lambda item: (-item[1], self.first(name, item[0])))
        return dict(ranked), int(counts[~kept].max(initial=0))

    def frequent(self, name: str) -> list[int]:
        """Return the numbers of a part that are frequent, see :func:`group_prompts`."""
        found, following = self.counts(name, FREQUENT)
        counts = [*found.values(), following]
        ends = [end for end in range(1, len(counts)) if counts[end - 1] >= _AHEAD * counts[end]]
        return list(found)[: max(ends, default=0)]

    def first(self, name: str, value: int) -> int:
        """Return the index of the first prompt with this part."""
        return int(np.argmax(self.parts[name] == value))

    def systems(self) -> Numbers:
        """Return the group of each prompt's system turn."""
        whole, start = self.parts["system"], self.parts["system_words"]
        groups = np.where(whole == 0, _NO_SYSTEM, _OTHER_SYSTEM)
        known: list[set[str]] = []
        for column in ("system", "system_words"):
            for value in self.frequent(column):
                example = self.first(column, value)
                has = (self.parts[column] == value) & (groups == _OTHER_SYSTEM)
                if not has.any():
                    continue
                text = _system_words(self.prompts[example])
                group = _variant(text, known)
                if group == len(known):
                    known.append(text)
                groups[has | ((start == start[example]) & (groups == _OTHER_SYSTEM))] = group
        rest = np.flatnonzero(groups == _OTHER_SYSTEM)
        if known and len(rest) < MAJORITY * len(groups):
            for index in map(int, rest):
                group = _variant(_system_words(self.prompts[index]), known)
                groups[index] = _OTHER_SYSTEM if group == len(known) else group
        return groups

    @cached_property
    def marks(self) -> list[Numbers]:
        """The marks of each prompt."""
        fields = [
            value
            for value in self.frequent("label")
            if self.parts["labels"][self.parts["label"] == value].mean() >= MAJORITY
        ]
        return [
            self.parts["opening_mark"],
            self.parts["ending_mark"],
            self.parts["inner_mark"],
            *_unless_varied(self._only("tag", self.frequent("tag"))),
            *_unless_varied(self._only("label", fields)),
            *_unless_varied(self._only("label_line", self.frequent("label_line"))),
        ]

    def _only(self, name: str, values: Collection[int]) -> Numbers:
        """Return a part of all prompts, with only these numbers of it."""
        return np.where(np.isin(self.parts[name], list(values)), self.parts[name], 0)

    def wording(self) -> list[Numbers]:
        """Return the opening and the ending of each prompt."""
        found = [self._majority(OPENINGS, opening=True), self._majority(ENDINGS, opening=False)]
        if any(column is not None for column in found):
            return [column for column in found if column is not None]
        lines = [self._long_lines("opening_line", 0), self._long_lines("ending_line", -1)]
        unmarked = np.all([column == 0 for column in self.marks], axis=0)
        return _unless_varied(*(np.where(unmarked, column, 0) for column in lines))

    def _majority(self, names: tuple[str, ...], *, opening: bool) -> Numbers | None:
        """Return 1 for each prompt with the opening or ending of most prompts, or with a variant of it.
        Returns None if most prompts have none in common."""
        found = {name: self.counts(name, MAJORITY)[0] for name in names}
        best = {name: next(iter(counts.items())) for name, counts in found.items() if counts}
        if not best:
            return None
        name = max(best, key=lambda name: best[name][1])
        value = best[name][0]
        split = openings if opening else endings
        has = self.parts[name] == value
        wanted = split(user_text(self.prompts[self.first(name, value)]))[names.index(name)]
        for index in map(int, np.flatnonzero(~has)):
            has[index] = _resembles(user_text(self.prompts[index]), wanted, opening=opening)
        column: Numbers = has.astype(np.int64)
        return column

    def _long_lines(self, name: str, position: int) -> Numbers:
        """Return the first or last line of each prompt, if it is frequent and long enough for a template."""
        long = []
        for value in self.frequent(name):
            line = user_text(self.prompts[self.first(name, value)]).split("\n")[position]
            if len(words(line)) >= WORDS:
                long.append(value)
        return self._only(name, long)


def _combined(*columns: Numbers) -> Numbers:
    """Return a number for each prompt. Prompts have the same number if they agree in all columns."""
    number = np.zeros_like(columns[0])
    for column in columns:
        values = np.unique(column, return_inverse=True)[1]
        number = np.unique(number * (int(values.max()) + 1) + values, return_inverse=True)[1]
    return number


def _unless_varied(*columns: Numbers) -> list[Numbers]:
    """Return the columns, or no columns if most prompts have no common values in them."""
    most = np.bincount(_combined(*columns)).max()
    return list(columns) if most >= MAJORITY * len(columns[0]) else []


def _resembles(text: str, wanted: list[str], *, opening: bool) -> bool:
    """Return whether a text starts or ends with most of the wanted words."""
    size, letters = len(wanted) + 2, 3 * sum(map(len, wanted)) + 40
    near = words(text[:letters])[:size] if opening else words(text[-letters:])[-size:]
    kept = set(wanted)
    return len(kept.intersection(near)) >= _SAME_WORDS * len(kept)


def _system_words(prompt: list[Message]) -> set[str]:
    return set(words(system_text(prompt) or ""))


def _variant(text: set[str], known: Sequence[set[str]]) -> int:
    """Return the position in ``known`` of a system turn with about the same words, or the number of known
    ones if there is none."""
    for number, other in enumerate(known):
        if 2 * len(text & other) >= _SAME_SYSTEM * (len(text) + len(other)):
            return number
    return len(known)
