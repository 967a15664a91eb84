"""Describe in words how two similar texts differ, or which passage they have in common."""

from difflib import SequenceMatcher

from rapidfuzz.distance import Indel

from tunegate_api.meta import summarize
from tunegate_trainer.data.shingles import words_of

_SHOWN_WORDS = 6
"""Maximum number of words in a description of a difference."""


def difference(text: str, other: str) -> str:
    """Return the words of ``text`` that ``other`` lacks, or the words of ``other`` that ``text`` lacks."""
    words, others = words_of(text), words_of(other)
    changes = Indel.opcodes(others, words)
    new = [
        word
        for change in changes
        if change.tag == "insert"
        for word in words[change.dest_start : change.dest_end]
    ]
    if new:
        return f"except for the words {summarize(new, _SHOWN_WORDS)}"
    missing = [
        word
        for change in changes
        if change.tag == "delete"
        for word in others[change.src_start : change.src_end]
    ]
    if missing:
        return f"without the words {summarize(missing, _SHOWN_WORDS)}"
    return "except for case, punctuation or white space"


def common_passage(text: str, other: str) -> str:
    """Return the beginning of the longest run of words that two texts have in common, and its length."""
    words, others = words_of(text), words_of(other)
    match = SequenceMatcher(None, words, others, autojunk=False).find_longest_match()
    shown = " ".join(words[match.a : match.a + min(match.size, _SHOWN_WORDS)])
    return f'{match.size} words "{shown} …"'
