"""What the rest of an output that was cut off can still change about its score, for graders that know it.

The output of a sample is the start of the whole output, and any text may follow, also none. An answer is
given only if it is certain: what a scorer would decide if it cannot be known stays open. Graders
without a function here are always open: a pattern can match in any continuation, and the scorers of users,
judges and guardrails are not known.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import replace
from fractions import Fraction

from pydantic_core import from_json
from rapidfuzz.distance import LCSseq

from tunegate_api.cases.expectations import LengthExpectation
from tunegate_api.cases.normalize import ComparedForm, without_differences
from tunegate_trainer.data.refusals import HEAD
from tunegate_trainer.graders.exact.expected_text import ExpectedText
from tunegate_trainer.graders.exact.labels import LABEL_FORMS, ExpectedLabel
from tunegate_trainer.graders.exact.length import counted_length
from tunegate_trainer.graders.exact.numeric import NUMBER_CHARACTERS, numbers_of, numeric
from tunegate_trainer.graders.exact.refusal import refusal
from tunegate_trainer.graders.exact.rouge import ExpectedOverlap, rouge_tokens
from tunegate_trainer.graders.exact.tool_calls import start_of_calls
from tunegate_trainer.graders.grader import Outlook, Sample
from tunegate_trainer.tokens.rows import Row

_NOT_JSON = ("expected", "invalid number", "trailing", "key must be", "control character")
"""How messages of the JSON parser start about a text that is not the start of JSON. Other messages are about
texts that end too early, or about limits of this parser that the scorers do not have."""


def _certain(passes: bool) -> Outlook:
    return Outlook.PASSES if passes else Outlook.FAILS


def _unless(fails: bool) -> Outlook:
    return Outlook.FAILS if fails else Outlook.OPEN


def equals_outlook(sample: Sample) -> Outlook:
    expected: ExpectedText = sample.reference
    if expected.extract or expected.ignore:
        return Outlook.OPEN
    start, has_ended = sample.output, False
    for text in expected.until:
        before, found, _ = start.partition(text)
        if found:
            start, has_ended = before, True
        elif not has_ended:
            start = start[: len(start) - _overlap(start, text)]
    wanted = expected.compared(expected.text)
    if has_ended:
        return _certain(expected.compared(start) == wanted)
    return _unless(not _may_become(wanted, start, expected.normalize, trim=expected.trim))


def _overlap(start: str, text: str) -> int:
    """Return the length of the longest end of ``start`` that is the start of ``text``, but not all of it."""
    longest = min(len(start), len(text) - 1)
    return next((size for size in range(longest, 0, -1) if start.endswith(text[:size])), 0)


def label_outlook(sample: Sample) -> Outlook:
    expected: ExpectedLabel = sample.reference
    return _unless(not _may_become(expected.label, sample.output, LABEL_FORMS))


def exact_match_outlook(sample: Sample) -> Outlook:
    if isinstance(sample.case, Row) and sample.case.tool_calls:
        return tool_calls_equal_outlook(replace(sample, reference=sample.reference.text))
    return equals_outlook(sample)


def starts_with_outlook(sample: Sample) -> Outlook:
    expected: ExpectedText = sample.reference
    wanted = without_differences(expected.text, expected.normalize)
    known = _settled(sample.output, expected.normalize)
    if expected.trim:
        wanted, known = wanted.lstrip(), known.lstrip()
    if (known.rstrip() if expected.trim else known).startswith(wanted):
        return Outlook.PASSES
    return _unless(not (wanted.startswith(known) or known.startswith(wanted)))


def contains_outlook(sample: Sample) -> Outlook:
    expected: ExpectedText = sample.reference
    wanted = without_differences(expected.text, expected.normalize)
    return Outlook.PASSES if wanted in _settled(sample.output, expected.normalize) else Outlook.OPEN


def not_contains_outlook(sample: Sample) -> Outlook:
    return contains_outlook(sample).opposite


def _may_become(wanted: str, start: str, forms: Collection[ComparedForm], *, trim: bool = True) -> bool:
    """Whether a text that begins with ``start`` may equal ``wanted`` without the differences of ``forms``."""
    known = _settled(start, forms)
    if not trim:
        return wanted.startswith(known)
    known = known.lstrip()
    return wanted.startswith(known) or known.rstrip() == wanted


def _settled(start: str, forms: Collection[ComparedForm]) -> str:
    """Return what all texts that begin with ``start`` begin with, without the differences of ``forms``.

    Two forms depend on the characters that follow. NFKC combines a character with those after it (Unicode
    Standard Annex 15), so everything from the last character that begins a combination is left out. The
    lower-case form of a capital sigma depends on whether it ends a word.
    """
    if "LowerCase" in forms and _has_sigma(start):
        return ""
    if "Unicode" in forms:
        start = start[: _last_combination(start)]
    return without_differences(start, forms)


def _has_sigma(text: str) -> bool:
    return "\u03a3" in unicodedata.normalize("NFKC", text)


def _last_combination(text: str) -> int:
    """Return the position of the last character that NFKC does not combine with those before it, so that no
    following text changes what is before it."""
    whole = unicodedata.normalize("NFKC", text)
    for at in range(len(text) - 1, 0, -1):
        if unicodedata.combining(unicodedata.normalize("NFKD", text[at])[0]):
            continue
        before, after = (unicodedata.normalize("NFKC", each) for each in (text[:at], text[at:]))
        if before + after == whole:
            return at
    return 0


def numeric_outlook(sample: Sample) -> Outlook:
    # What follows can change a number only if no other character is between.
    known = sample.output.rstrip(NUMBER_CHARACTERS)
    if not numbers_of(known) or not numbers_of(sample.reference.answer):
        return Outlook.OPEN
    return _certain(numeric(replace(sample, output=known)) is None)


def rouge_l_outlook(sample: Sample) -> Outlook:
    return _overlaps(sample, LCSseq.similarity)


def word_f1_outlook(sample: Sample) -> Outlook:
    return _overlaps(sample, lambda output, text: (Counter(output) & Counter(text)).total())


def _overlaps(sample: Sample, common: Callable[[list[str], list[str]], int]) -> Outlook:
    """Compare the highest F-measure that is possible with the one that passes. It is highest if the output
    goes on with the tokens of the reference that it does not have yet, and ends."""
    expected: ExpectedOverlap = sample.reference
    if _has_sigma(sample.output):
        return Outlook.OPEN
    output, text = rouge_tokens(sample.output)[:-1], rouge_tokens(expected.text)  # the last may go on
    missing = len(text) - common(output, text)
    highest = Fraction(2 * len(text), max(1, len(text) + len(output) + missing))
    return _unless(highest < expected.min)


def length_outlook(sample: Sample) -> Outlook:
    expected: LengthExpectation = sample.reference
    least = counted_length(sample.output, expected.unit)
    if expected.max is not None:
        return _unless(least > expected.max)
    return Outlook.PASSES if expected.min is not None and least >= expected.min else Outlook.OPEN


def refusal_outlook(sample: Sample) -> Outlook:
    text = sample.output.strip()
    if len(text) < HEAD:
        return Outlook.OPEN
    # Beside the head, only a quotation mark at the end of an answer is read.
    found = {refusal(replace(sample, output=text + end)) is None for end in (".", '"')}
    return _certain(found.pop()) if len(found) == 1 else Outlook.OPEN


def json_outlook(sample: Sample) -> Outlook:
    try:
        from_json(sample.output)
    except ValueError as error:
        return _unless(str(error).startswith(_NOT_JSON))
    except TypeError:  # a half of a surrogate pair, which is no text in UTF-8
        return Outlook.OPEN
    return Outlook.OPEN


def tool_calls_equal_outlook(sample: Sample) -> Outlook:
    wanted: str = sample.reference
    return _unless(not start_of_calls(wanted, whole=True).startswith(start_of_calls(sample.output)))
