"""What expectations claim about the text of an output: all of it, its start, or a part of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Literal

from tunegate_api.cases.expectations import LabelExpectation, TextExpectation
from tunegate_api.cases.normalize import ComparedForm, without_differences
from tunegate_trainer.evaluate.contradictions.conditions import Condition, both
from tunegate_trainer.evaluate.scorers.labels import f1_label

_BY_CHARACTER: frozenset[ComparedForm] = frozenset({"Case", "Punctuation", "AsciiPunctuation"})
"""The forms that change each character independently of the characters around it."""


@dataclass(frozen=True)
class View:
    """What is compared of an output."""

    forms: frozenset[ComparedForm] = frozenset()
    """Differences that are ignored."""
    answer: str = ""
    """How the answer is found in the output: until, extract and ignore. Empty if all of it is compared."""


PLAIN = View()
"""The output as it is."""


@dataclass(frozen=True)
class Claim:
    """What a condition claims about an output in a view, or denies if the condition is negated."""

    condition: Condition
    view: View
    part: Literal["Whole", "Start", "Some"]
    """Whole and Start ignore white space at both ends of the output. Some is somewhere in the output."""
    text: str

    def seen_in(self, view: View) -> "Claim | None":
        """Return what the claim implies in another view, or None if that is unknown."""
        if self.view == view:
            return self
        if self.view != PLAIN or view.answer or not (self.part == "Whole" or view.forms <= _BY_CHARACTER):
            return None
        text = without_differences(self.text, view.forms)
        return replace(self, view=view, text=text if self.part == "Some" else text.strip())


def claims_of(conditions: Sequence[Condition]) -> list[Claim]:
    """Return what conditions claim, as far as it is known."""
    return [claim for each in conditions if (claim := _claim(each))]


def _claim(condition: Condition) -> Claim | None:
    leaf = condition.leaf
    if isinstance(leaf, LabelExpectation):
        return Claim(condition, View(frozenset({"Unicode", "Case"})), "Whole", f1_label(leaf.value))
    if not isinstance(leaf, TextExpectation) or leaf.type == "regex":
        return None
    if condition.negated and not leaf.trim:
        return None  # the same text with other white space at its ends passes
    compares = {"until", "extract", "ignore"}
    answer = leaf.model_dump_json(include=compares) if leaf.until or leaf.extract or leaf.ignore else ""
    view, text = View(frozenset(leaf.normalize), answer), without_differences(leaf.value, leaf.normalize)
    if leaf.type == "equals":
        return Claim(condition, view, "Whole", text.strip())
    if leaf.type == "starts_with":
        return Claim(condition, view, "Start", text.lstrip() if leaf.trim else text.strip())
    return Claim(condition, view, "Some", text)


def text_contradictions(claims: Sequence[Claim]) -> Iterator[str]:
    """Find texts that no output has at the same time, and texts that an output has and must not have."""
    positive = [claim for claim in claims if not claim.condition.negated]
    negative = [claim for claim in claims if claim.condition.negated]
    for one, other in product(positive, negative):
        seen = one.seen_in(other.view)
        if seen and _implies(seen, other):
            yield both(one.condition, other.condition)
    for one, other in combinations(positive, 2):
        for first, second in ((one, other), (other, one)):
            seen = first.seen_in(second.view)
            if seen and _exclude(seen, second):
                yield both(one.condition, other.condition)
                break


def _implies(one: Claim, other: Claim) -> bool:
    """Whether each output for which the first claim is true has the text of the second one."""
    if other.part == "Whole":
        return one.part == "Whole" and one.text == other.text
    if other.part == "Start":
        return one.part != "Some" and one.text.startswith(other.text)
    return other.text in one.text


def _exclude(one: Claim, other: Claim) -> bool:
    """Whether two claims cannot be true of the same output."""
    if other.part == "Whole" and one.part != "Whole":
        return _exclude(other, one)
    if one.part == "Whole":
        return {
            "Whole": one.text != other.text,
            "Start": not one.text.startswith(other.text),
            "Some": other.text.strip() not in one.text,
        }[other.part]
    return one.part == other.part == "Start" and not (
        one.text.startswith(other.text) or other.text.startswith(one.text)
    )
