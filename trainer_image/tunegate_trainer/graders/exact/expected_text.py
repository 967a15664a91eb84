"""The reference of scorers that compare texts."""

import re
from dataclasses import dataclass
from typing import Literal

from tunegate_api.cases.expectations import Extraction
from tunegate_api.cases.normalize import ComparedForm, normalized, without_differences


@dataclass(frozen=True)
class ExpectedText:
    """The text that an output is compared with, and what the comparison ignores."""

    text: str
    normalize: tuple[ComparedForm, ...] = ()
    trim: bool = True
    """Whether white space at both ends of the output is ignored."""
    dialect: Literal["Python", "JavaScript"] = "Python"
    """The dialect of a regular expression."""
    until: tuple[str, ...] = ()
    """Texts before which the output is cut."""
    extract: Extraction | None = None
    """Finds the answer in the output."""
    ignore: tuple[str, ...] = ()
    """Patterns whose matches are removed from the answer."""

    def compared(self, text: str) -> str:
        """Return a text without the differences that the comparison ignores."""
        return (normalized if self.trim else without_differences)(text, self.normalize)

    def answer(self, output: str) -> str | None:
        """Return the part of an output that is compared, or None if it has no answer."""
        for text in self.until:
            output = output.partition(text)[0]
        if self.extract:
            matches = re.findall(self.extract.pattern, output)
            if not matches:
                return None
            found = matches[0 if self.extract.match == "First" else -1]
            groups = found if isinstance(found, tuple) else (found,)
            output = next(filter(None, groups), "").strip()
        for pattern in self.ignore:
            output = re.sub(pattern, "", output)
        return output
