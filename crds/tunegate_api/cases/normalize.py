"""Normalize texts before they are compared."""

import re
import string
import unicodedata
from collections.abc import Collection
from typing import Literal

from tunegate_api.v1alpha2.finetunejob import TextForm

ComparedForm = TextForm | Literal["LowerCase", "AsciiPunctuation"]
"""A difference that golden cases can ignore."""
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(text: str, forms: Collection[ComparedForm]) -> str:
    """Return ``text`` without the differences that ``forms`` ignore, and without white space at its ends."""
    return without_differences(text, forms).strip()


def without_differences(text: str, forms: Collection[ComparedForm]) -> str:
    """Return ``text`` without the differences that ``forms`` ignore.

    Unicode applies the normalization form NFKC. Case applies full case folding, LowerCase the full mapping to
    lower case. Punctuation removes all characters of the Unicode categories P (Unicode Standard, section
    4.5), AsciiPunctuation those of ``string.punctuation``. WhiteSpace replaces each sequence of white space
    with one space.
    """
    if "Unicode" in forms:
        text = unicodedata.normalize("NFKC", text)
    if "Case" in forms:
        text = text.casefold()
    if "LowerCase" in forms:
        text = text.lower()
    if "Punctuation" in forms:
        text = "".join(each for each in text if not unicodedata.category(each).startswith("P"))
    if "AsciiPunctuation" in forms:
        text = text.translate(_NO_PUNCTUATION)
    if "WhiteSpace" in forms:
        text = re.sub(r"\s+", " ", text)
    return text
