"""Check for preference pairs whose answers are almost equal, so that they express hardly any preference.

DPO compares the probabilities of both answers, so tokens before the first difference cancel in the
sigmoid loss. If only a word is different, the model learns that word, and the probability of both answers can
fall: see Pal et al. 2024, "Smaug: Fixing Failure Modes of Preference Optimisation with DPO-Positive"
(https://arxiv.org/abs/2402.13228).
"""

import re
from dataclasses import replace
from typing import Any

from rapidfuzz.distance import OSA, Levenshtein

from tunegate_api.preference import json_notation
from tunegate_trainer.checks.finding import CheckContext, Finding
from tunegate_trainer.checks.rows import UsableRows
from tunegate_trainer.checks.share_finding import share_finding
from tunegate_trainer.data.split import normalize
from tunegate_trainer.data.usable import UsableRow
from tunegate_trainer.tokens.rows import Pair

NAME = "near_equal_pairs"
MIN_CHARACTERS = 60
"""In answers shorter than this, such as labels, every other word is a preference."""
MIN_LENGTH_RATIO = 0.75
"""Minimum length of the shorter of two such answers, relative to the longer one."""
WORDS_PER_EDIT = 50
"""One word may differ for every so many words of the longer answer; in shorter answers, one word."""
MIN_MISSPELT = 5
"""Minimum length of a word that counts as misspelt if one character is different."""

_PUNCTUATION = ".,;:!?…。、"
_QUOTES = str.maketrans("“”„«»‘’", '"""""\'\'')  # noqa: RUF001 - quotation marks are replaced
_NEGATIONS = frozenset(
    ("not", "no", "never", "without", "nicht", "kein", "keine", "nie", "ohne", "pas", "jamais", "sans")
)
_DIGIT = re.compile(r"\d")


def run(rows: UsableRows, _context: CheckContext) -> list[Finding]:
    """Find the pairs whose answers are almost equal, see :func:`difference`."""
    return share_finding(
        NAME,
        replace(rows, rows=[]),
        _difference_of,
        "a chosen answer that is almost equal to the rejected one",
        "remove these pairs, or replace one of their answers by one that is clearly better or worse",
        unit="pairs",
    )


def _difference_of(measured: UsableRow[Any]) -> str | None:
    pair: Pair = measured.labelled.row
    return difference(pair.chosen, pair.rejected)


def difference(chosen: str, rejected: str) -> str | None:
    """Return how two answers differ if they are almost equal, else None.

    Answers are almost equal if they differ only in case, white space, punctuation and quotation marks, or if
    they are the same JSON value. Answers of at least 60 characters are also almost equal if at most 2 % of
    the words, or one word, are left out, added or misspelt, and if the shorter answer has at least three
    quarters of the characters. Other numbers, other words, negations and other JSON values are preferences,
    even if they are the only difference.
    """
    same_json = _same_json(chosen, rejected)
    if same_json is not None:
        return "they are the same JSON value" if same_json else None
    texts = normalize(chosen), normalize(rejected)
    shorter, longer = sorted(map(len, texts))
    if longer >= MIN_CHARACTERS and shorter < MIN_LENGTH_RATIO * longer:
        return None
    first, second = map(_words, texts)
    if first and first == second:
        return "they differ only in case, white space or punctuation"
    edits = _edits(first, second) if longer >= MIN_CHARACTERS else None
    if edits is None:
        return None
    words = max(len(first), len(second))
    return f"they differ in {edits} of {words} words"


def _same_json(chosen: str, rejected: str) -> bool | None:
    """Return whether two answers are the same JSON value, or None if neither is a JSON object or array."""
    first, second = json_notation(chosen), json_notation(rejected)
    if first is None and second is None:
        return None
    return first == second


def _words(text: str) -> list[str]:
    """Return the words of a normalized text, without the punctuation that ends words and without quotes
    around the text."""
    if not text.isascii():
        text = text.translate(_QUOTES)
    words = (word.rstrip(_PUNCTUATION) for word in text.strip("\"'").split(" "))
    return [word for word in words if word]


def _edits(first: list[str], second: list[str]) -> int | None:
    """Return how many words of two answers differ, or None if the difference can be a preference."""
    most = max(1, max(len(first), len(second)) // WORDS_PER_EDIT)
    edits = Levenshtein.distance(first, second, score_cutoff=most)
    if edits > most:
        return None
    for edit in Levenshtein.editops(first, second):
        if edit.tag == "replace":
            meant = not _is_misspelt(first[edit.src_pos], second[edit.dest_pos])
        else:
            meant = _is_meant(first[edit.src_pos] if edit.tag == "delete" else second[edit.dest_pos])
        if meant:
            return None
    return edits


def _is_misspelt(first: str, second: str) -> bool:
    """Whether two words differ in one character, or in the order of two."""
    if min(len(first), len(second)) < MIN_MISSPELT or _DIGIT.search(first + second):
        return False
    return OSA.distance(first, second, score_cutoff=1) <= 1


def _is_meant(word: str) -> bool:
    """Whether the meaning can change if this word is left out: a number, a symbol or a negation."""
    if _DIGIT.search(word) or not any(map(str.isalpha, word)):
        return True
    return word in _NEGATIONS or word.endswith("n't")
