"""The reference of scorers that compare texts."""

from dataclasses import dataclass
from typing import Literal

from tunegate_api.judging.normalize import ComparedForm, normalized, without_differences


@dataclass(frozen=True)
class ExpectedText:
    """The text that an output is compared with, and what the comparison ignores."""

    text: str
    normalize: tuple[ComparedForm, ...] = ()
    trim: bool = True
    """Whether white space at both ends of the output is ignored."""
    dialect: Literal["Python", "JavaScript"] = "Python"
    """The dialect of a regular expression."""

    def compared(self, text: str) -> str:
        """Return a text without the differences that the comparison ignores."""
        return (normalized if self.trim else without_differences)(text, self.normalize)
