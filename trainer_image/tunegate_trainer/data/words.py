"""Words of a text, with their hashes and weights. They are the same in every process."""

import re
import unicodedata
from hashlib import blake2b

WORD_WEIGHT = 150
"""The weight of a word with which passages are measured, see :attr:`Words.weights`."""
_CHINESE_WEIGHT, _THAI_WEIGHT = 65, 39
"""The weights of a character of two kinds of scripts without spaces between words. 30 or 50 characters weigh
as much as 13 words. For comparison, article 1 of the Universal Declaration of Human Rights has 30 words in
English. Per 13 of these, it has 17 characters in Chinese, 34 in Japanese, 45 in Thai, 46 in Lao and 49 in
Khmer."""
_THAI = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
"""Characters of Thai, Lao, Burmese and Khmer."""
_SPACELESS = f"{_THAI}\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Characters of scripts without spaces between words: those of :data:`_THAI`, of Chinese and of Japanese. In
shingles, each is a word."""
_THAI_CHARACTER, _SPACELESS_CHARACTER = re.compile(f"[{_THAI}]"), re.compile(f"[{_SPACELESS}]")
_ASCII_WORDS = re.compile(r"\w+", re.ASCII)
_WORDS = re.compile(rf"[{_SPACELESS}]|(?:(?![{_SPACELESS}])\w)+")
_MOST_KNOWN_WORDS = 500_000


def words_of(text: str) -> list[str]:
    """Return the words of a text, without case, punctuation and differences between equivalent Unicode
    forms. In a text of symbols alone, such as emojis, each symbol counts as a word: otherwise all such texts
    would be equal."""
    if text.isascii():
        return _ASCII_WORDS.findall(text.lower()) or _symbols(text)
    normalized = unicodedata.normalize("NFKC", text).casefold()
    return _WORDS.findall(normalized) or _symbols(normalized)


def _symbols(text: str) -> list[str]:
    """Return the characters of a text, without spaces and marks, such as those that choose the form of an
    emoji."""
    return [
        character for character in text if not character.isspace() and unicodedata.category(character) != "Mn"
    ]


class _WordHashes(dict[str, int]):
    def __init__(self) -> None:
        super().__init__()
        self.weights: dict[int, int] = {}
        """The weight of each hash that has another one than :data:`WORD_WEIGHT`. There are at most as many as
        characters in :data:`_SPACELESS`."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _MOST_KNOWN_WORDS:
            self.clear()
        found = int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
        self[word] = found
        if (weight := _weight(word)) != WORD_WEIGHT:
            self.weights[found] = weight
        return found


def _weight(word: str) -> int:
    """Return the weight of a word. Marks, such as vowel signs of Thai, belong to the character before."""
    if not _SPACELESS_CHARACTER.fullmatch(word):
        return WORD_WEIGHT
    if unicodedata.category(word) in ("Mn", "Mc"):
        return 0
    return _THAI_WEIGHT if _THAI_CHARACTER.fullmatch(word) else _CHINESE_WEIGHT


hash_of = _WordHashes()
"""The hash of each word. Hashes of new words are added when they are read."""
