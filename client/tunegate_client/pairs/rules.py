"""The rules by which rankings become preference pairs."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations
from typing import Any

from tunegate_api.preference import Candidates, Ranking, json_notation, prompt_value

RULES = {
    "identical": "both texts are the same, apart from white space",
    "near-equal": "the texts differ only in case, white space or punctuation, or are the same JSON value",
    "unusable": "at least half of the raters of the prompt marked one of the two as unusable",
    "too few raters": "fewer raters than --min-raters ranked both",
    "tie": "too few raters prefer one of the two, and nobody prefers the other one",
    "contradiction": "raters prefer different ones and too few agree, or the majorities form a cycle",
    "not best and worst": "another pair of the prompt has a better and a worse completion",
}
"""Why pairs of completions are dropped, in the order in which the rules are applied."""
_PUNCTUATION, _QUOTES = ".,;:!?…", "\"'"


@dataclass(frozen=True)
class BuiltPair:
    """A preference of the majority. The answers are ids of completions."""

    candidates: Candidates
    chosen: str
    rejected: str
    agreement: Fraction
    """The share of the raters of both who prefer the chosen one."""

    def line(self) -> dict[str, Any]:
        """Return the line of the pairs file, in the format of a data source of use Preference."""
        texts = self.candidates.texts
        return {
            "id": f"{self.candidates.id}:{self.chosen}>{self.rejected}",
            "prompt": prompt_value(self.candidates.prompt),
            "chosen": texts[self.chosen],
            "rejected": texts[self.rejected],
        }


@dataclass
class Built:
    """The pairs, and how many pairs of completions each rule dropped."""

    pairs: list[BuiltPair] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


def build_pairs(
    candidates: Iterable[Candidates],
    rankings: Iterable[Ranking],
    *,
    min_agreement: Fraction = Fraction(1, 2),
    min_raters: int = 1,
    every_pair: bool = False,
) -> Built:
    """Return the pairs in which more than half of the raters prefer one completion, and at least
    ``min_agreement`` of them. Prompts that nobody ranked are left out.

    A prompt gives one pair, its best and its worst completion, or with ``every_pair`` all of its pairs.
    """
    of_prompt = defaultdict[str, list[Ranking]](list)
    for ranking in rankings:
        of_prompt[ranking.id].append(ranking)
    built = Built()
    for one in candidates:
        if of_prompt[one.id]:
            pairs = _majority(one, of_prompt[one.id], min_agreement, min_raters, built.dropped)
            if pairs and not every_pair:
                built.dropped["not best and worst"] += len(pairs) - 1
                pairs = [_best_and_worst(pairs)]
            built.pairs += pairs
    return built


def _majority(
    one: Candidates, rankings: Sequence[Ranking], least: Fraction, raters: int, dropped: Counter[str]
) -> list[BuiltPair]:
    """Return all pairs of a prompt that no rule drops."""
    bad = Counter(id for ranking in rankings for id in ranking.bad)
    unusable = {id for id, count in bad.items() if 2 * count >= len(rankings)}
    texts, found = one.texts, list[BuiltPair]()
    for first, second in combinations(texts, 2):
        votes = Counter(_votes(rankings, first, second))
        chosen, rejected = (first, second) if votes[first] >= votes[second] else (second, first)
        total = votes.total()
        if texts[first].split() == texts[second].split():
            dropped["identical"] += 1
        elif _are_near_equal(texts[first], texts[second]):
            dropped["near-equal"] += 1
        elif unusable & {first, second}:
            dropped["unusable"] += 1
        elif total < max(raters, 1):
            dropped["too few raters"] += 1
        elif 2 * votes[chosen] > total and votes[chosen] >= least * total:
            found.append(BuiltPair(one, chosen, rejected, Fraction(votes[chosen], total)))
        else:
            dropped["contradiction" if votes[rejected] else "tie"] += 1
    kept = [pair for pair in found if not _leads_to(found, pair.rejected, pair.chosen)]
    dropped["contradiction"] += len(found) - len(kept)
    return kept


def _votes(rankings: Iterable[Ranking], first: str, second: str) -> Iterator[str]:
    """Yield the completion that each rater of both prefers; an empty text if they are equal."""
    for ranking in rankings:
        places = ranking.places
        if first in places and second in places:
            difference = places[first] - places[second]
            yield "" if not difference else first if difference < 0 else second


def _leads_to(pairs: Iterable[BuiltPair], start: str, end: str) -> bool:
    """Return whether ``start`` is better than ``end``, or better than one that leads to ``end``."""
    worse = defaultdict[str, list[str]](list)
    for pair in pairs:
        worse[pair.chosen].append(pair.rejected)
    seen, waiting = set[str](), [start]
    while waiting:
        for id in worse[waiting.pop()]:
            if id not in seen:
                seen.add(id)
                waiting.append(id)
    return end in seen


def _best_and_worst(pairs: Sequence[BuiltPair]) -> BuiltPair:
    """Return the pair with the largest difference in Copeland's score, which is the number of completions
    that one is better than, minus the number that are better; then the one on which most raters agree, then
    the first one.

    Copeland 1951, "A reasonable social welfare function"."""
    score = Counter(pair.chosen for pair in pairs)
    score.subtract(pair.rejected for pair in pairs)
    return max(pairs, key=lambda pair: (score[pair.chosen] - score[pair.rejected], pair.agreement))


def _are_near_equal(first: str, second: str) -> bool:
    notation = json_notation(first)
    is_same_json = notation is not None and notation == json_notation(second)
    return is_same_json or _words(first) == _words(second)


def _words(text: str) -> list[str]:
    """Return the words of a text, without case, without the punctuation that ends words, and without quotes
    around the text."""
    words = unicodedata.normalize("NFKC", text).casefold().strip().strip(_QUOTES).split()
    return [stripped for word in words if (stripped := word.rstrip(_PUNCTUATION))] or words
