"""Precision and recall of a check over lines whose fault is known."""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """How many lines a check found rightly, found wrongly, and missed. Counts can be added."""

    right: int = 0
    wrong: int = 0
    missed: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.right + other.right, self.wrong + other.wrong, self.missed + other.missed)

    @property
    def precision(self) -> float:
        """The share of the found lines that have the fault; 1 if nothing was found."""
        return self.right / (self.right + self.wrong) if self.right + self.wrong else 1.0

    @property
    def recall(self) -> float:
        """The share of the lines with the fault that were found; 1 if no line has it."""
        return self.right / (self.right + self.missed) if self.right + self.missed else 1.0


def compare(found: Collection[int], faulty: Collection[int]) -> Counts:
    """Compare the lines that a check found with the lines that have the fault."""
    found, faulty = set(found), set(faulty)
    return Counts(len(found & faulty), len(found - faulty), len(faulty - found))
