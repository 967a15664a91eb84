"""Normalize texts before they are compared."""

import unicodedata
from collections.abc import Collection
from typing import Literal

Form = Literal["Case", "WhiteSpace", "Punctuation", "Unicode"]
"""A difference between two texts that a comparison ignores, see ``taskMetrics[].normalize``."""


def normalized(text: str, forms: Collection[Form]) -> str:
    """Return ``text`` without the differences that ``forms`` ignore, and without white space at its ends.

    Unicode applies the normalization form NFKC. Case applies full case folding. Punctuation removes all
    characters of the Unicode categories P (Unicode Standard, section 4.5). WhiteSpace replaces each sequence
    of white space with one space.
    """
    if "Unicode" in forms:
        text = unicodedata.normalize("NFKC", text)
    if "Case" in forms:
        text = text.casefold()
    if "Punctuation" in forms:
        text = "".join(each for each in text if not unicodedata.category(each).startswith("P"))
    if "WhiteSpace" in forms:
        text = " ".join(text.split())
    return text.strip()
