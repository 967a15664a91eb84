"""Describe in words how two similar texts differ, or which passage they have in common. Secrets and personal
data are masked."""

from collections.abc import Sequence
from difflib import SequenceMatcher

from rapidfuzz.distance import Indel

from tunegate_api.meta import summarize
from tunegate_trainer.data.excerpts import masked
from tunegate_trainer.data.personal_values import personal_values
from tunegate_trainer.data.secret_values import secret_values
from tunegate_trainer.data.words import words_of

_SHOWN_WORDS = 6
"""Maximum number of words in a description of a difference."""


def difference(text: str, other: str) -> str:
    """Return the words of ``text`` that ``other`` lacks, or the words of ``other`` that ``text`` lacks."""
    if new := _words_without(text, other):
        return f"except for the words {summarize(_masked(new, text), _SHOWN_WORDS)}"
    if missing := _words_without(other, text):
        return f"without the words {summarize(_masked(missing, other), _SHOWN_WORDS)}"
    return "except for case, punctuation or white space"


def common_passage(text: str, other: str) -> str:
    """Return the beginning of the longest run of words that two texts have in common, and its length."""
    words, others = words_of(text), words_of(other)
    match = SequenceMatcher(None, words, others, autojunk=False).find_longest_match()
    shown = " ".join(_masked(words[match.a : match.a + min(match.size, _SHOWN_WORDS)], text))
    return f'{match.size} words "{shown} …"'


def _words_without(text: str, other: str) -> list[str]:
    words = words_of(text)
    return [
        word
        for change in Indel.opcodes(words_of(other), words)
        if change.tag == "insert"
        for word in words[change.dest_start : change.dest_end]
    ]


def _masked(words: Sequence[str], text: str) -> list[str]:
    """Return words of ``text``, with those masked that are part of a secret or of personal data."""
    values = (*secret_values(text), *personal_values(text))
    hidden = {word for _, value in values for word in words_of(value)}
    return [masked(word) if word in hidden else word for word in words]
