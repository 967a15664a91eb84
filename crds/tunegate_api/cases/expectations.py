"""The expectations of golden cases: what an output must be to pass."""

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic_core import PydanticCustomError

from tunegate_api.cases.ecma_regex import EcmaRegexError, python_pattern
from tunegate_api.cases.normalize import ComparedForm, without_differences
from tunegate_api.messages import FunctionCall
from tunegate_api.meta import ApiModel, Decimal, exact
from tunegate_api.v1alpha2.finetunejob import EntryPoint
from tunegate_api.v1alpha2.graders import SafetyRating
from tunegate_api.validation.json_schema import schema_faults

_WORD = re.compile(r"[^\W_]")
MAX_DEPTH = 4
"""Maximum number of groups inside each other."""


class _Expectation(ApiModel):
    not_: Annotated[bool, Field(alias="not", strict=True)] = False
    """If true, the opposite is expected."""


class Extraction(ApiModel):
    """Finds the answer in an output: the first group of a pattern that is not empty, or the whole match of a
    pattern without groups. White space at both ends of the answer is removed."""

    pattern: Annotated[str, Field(min_length=1)]
    """A Python regular expression. An output in which it does not match does not pass."""
    match: Literal["First", "Last"] = "First"
    """Which of several matches has the answer."""


class TextExpectation(_Expectation):
    """Compares the output with a string. Leading and trailing white space of the output is ignored, unless
    `trim` is false."""

    type: Literal["equals", "starts_with", "contains", "not_contains", "regex"]
    """Type of the comparison."""
    value: Annotated[str, Field(min_length=1)]
    """The string. For regex, a regular expression that must match somewhere in the output."""
    normalize: Annotated[list[ComparedForm], Field(max_length=4)] = []
    """Differences between output and string that are ignored: of case, of the amount of white space, of
    punctuation, and between forms of the same character (NFKC). Case applies Unicode case folding, so that
    "ß" equals "ss"; LowerCase only compares the lower-case forms. AsciiPunctuation ignores the 32 signs of
    ASCII that are neither letters nor digits, with `$` and `+`, and no others. For regex, only Case and
    LowerCase are allowed, and change only the output: write the pattern in lower case."""
    trim: Annotated[bool, Field(strict=True)] = True
    """If false, white space at both ends of the output is compared too. Only for equals, starts_with and
    regex; contains and not_contains always compare it."""
    dialect: Literal["Python", "JavaScript"] = "Python"
    """Syntax and meaning of a regex. JavaScript: a regular expression of JavaScript without flags. Back
    references are not supported."""
    until: Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=64)] = []
    """Texts that end the answer: the output is cut where one of them begins. Only for equals."""
    extract: Extraction | None = None
    """Finds the answer in the output, which is then compared instead of the output. Only for equals."""
    ignore: Annotated[list[str], Field(max_length=16)] = []
    """Python regular expressions. Their matches are removed from the output, or from the extracted answer,
    but not from the string. Only for equals."""


class LabelExpectation(_Expectation):
    """Passes if the whole output is the expected label, for classification. Case is ignored."""

    type: Literal["label"]
    """Type of the comparison."""
    value: Annotated[str, Field(min_length=1)]
    """The label."""


class CaseTolerance(ApiModel):
    """The largest allowed distance from the number of a case. At least one of the fields must be set. If both
    are set, the larger of the two distances is allowed."""

    absolute: Decimal | None = None
    """Allowed distance as a number."""
    relative: Decimal | None = None
    """Allowed distance as a fraction of the number, 0 to 1."""


class NumberExpectation(_Expectation):
    """Passes if the first number of the output is the expected number. Other text is ignored."""

    type: Literal["numeric"]
    """Type of the comparison."""
    value: Decimal
    """The number."""
    tolerance: CaseTolerance | None = None
    """Largest allowed distance from the number. If omitted, the numbers must be equal."""


class OverlapExpectation(_Expectation):
    """Passes if enough words of the output and of a reference text are the same. Case is ignored."""

    type: Literal["rouge_l", "word_f1"]
    """Type of the comparison. rouge_l: F-measure of the longest common sequence of words. word_f1: F-measure
    of the common words, in any order."""
    value: Annotated[str, Field(min_length=1)]
    """The reference text."""
    min: Decimal
    """Smallest F-measure that passes, 0 to 1."""


class LengthExpectation(_Expectation):
    """Passes if the length of the output is in a range. White space at both ends is not counted."""

    type: Literal["length"]
    """Type of the comparison."""
    unit: Literal["Characters", "Words", "Lines"] = "Characters"
    """What is counted. Words are separated by white space. Empty lines are counted."""
    min: Annotated[int | None, Field(ge=0)] = None
    """Smallest length that passes."""
    max: Annotated[int | None, Field(ge=0)] = None
    """Largest length that passes."""


class RefusalExpectation(_Expectation):
    """Passes if the output refuses the request, which is recognized by phrases such as "I can't help with
    that", in nine languages. An output in which an AI only mentions itself is no refusal."""

    type: Literal["refusal"]
    """Type of the comparison."""


class SchemaExpectation(_Expectation):
    """Passes if the output is JSON and follows a JSON schema."""

    type: Literal["json_schema"]
    """Type of the comparison."""
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    """The JSON schema."""


class JsonExpectation(_Expectation):
    """Passes if the output is JSON with the expected value. White space and the order of keys are ignored."""

    type: Literal["json_equals"]
    """Type of the comparison."""
    value: Any
    """The expected value. 1 and 1.0 are equal; 1 and true are not."""


class CallsExpectation(_Expectation):
    """Passes if the model makes exactly the expected tool calls, in this order. Reasoning is ignored."""

    type: Literal["tool_calls_equal"]
    """Type of the comparison."""
    value: Annotated[list[FunctionCall], Field(min_length=1, max_length=64)]
    """The expected tool calls. Names and arguments must be equal. The order of arguments is ignored if the
    model writes arguments as JSON."""


class CustomExpectation(_Expectation):
    """Passes if a scorer of your own passes the output, see docs/task-metrics.md."""

    type: Literal["custom"]
    """Type of the comparison."""
    entry_point: EntryPoint
    """Name of an entry point of the group tunegate.scorers, in a Python package that is installed in the
    trainer image."""
    value: Any = None
    """What the scorer compares the output with: its `sample.reference`."""


class JudgeExpectation(_Expectation):
    """Passes if the grader of the gate with the type Model and with `agreement` scores the output as good. If
    this judge is not calibrated, the case is an error."""

    type: Literal["judge"]
    """Type of the comparison."""
    rubric: Annotated[str | None, Field(min_length=1, max_length=4096)] = None
    """Criteria for this case, which apply in addition to the rubric of the grader."""


class GuardrailExpectation(_Expectation):
    """Passes if the grader of the gate with the type Guardrail gives the output this rating. If the guardrail
    rates its probes wrongly, the case is an error."""

    type: Literal["guardrail"]
    """Type of the comparison."""
    rating: SafetyRating = "Safe"
    """The expected rating."""


class GroupExpectation(_Expectation):
    """Combines expectations. If one of them cannot be evaluated, the case is an error."""

    type: Literal["all", "any"]
    """Whether all of the expectations must pass, or any of them."""
    of: Annotated[list["Expectation"], Field(min_length=1, max_length=64)]
    """The expectations. They may be groups too, up to four levels deep."""
    min: Annotated[int | None, Field(ge=1)] = None
    """How many of the expectations must pass. Only for any. Defaults to 1."""

    @property
    def needed(self) -> int:
        """How many of the expectations must pass."""
        return len(self.of) if self.type == "all" else self.min or 1


Leaf = (
    TextExpectation
    | LabelExpectation
    | NumberExpectation
    | OverlapExpectation
    | LengthExpectation
    | RefusalExpectation
    | SchemaExpectation
    | JsonExpectation
    | CallsExpectation
    | CustomExpectation
    | JudgeExpectation
    | GuardrailExpectation
)
"""An expectation that is evaluated by one scorer."""

Expectation = Annotated[Leaf | GroupExpectation, Field(discriminator="type")]
GroupExpectation.model_rebuild()


def leaves(expectations: Sequence[Expectation], *, negated: bool | None = None) -> Iterator[Leaf]:
    """Return the expectations without the groups that combine them.

    ``negated`` selects those whose opposite is expected (True), or the others (False). An odd number of
    ``not``, at the expectation and at the groups around it, negates an expectation.
    """
    for leaf, is_negated in _leaves(expectations, outside=False):
        if negated is None or negated == is_negated:
            yield leaf


def _leaves(expectations: Sequence[Expectation], *, outside: bool) -> Iterator[tuple[Leaf, bool]]:
    for each in expectations:
        is_negated = outside != each.not_
        if isinstance(each, GroupExpectation):
            yield from _leaves(each.of, outside=is_negated)
        else:
            yield each, is_negated


def judgeable(expectation: Expectation) -> Expectation:
    """Refuse an expectation that cannot be evaluated, before a model is trained."""
    faults = "; ".join(_faults(expectation))
    if faults:
        raise PydanticCustomError("judgeable", "{faults}", {"faults": faults})
    return expectation


def _faults(expectation: Expectation, depth: int = 1) -> Iterator[str]:
    """Return why no output, or every output, would pass."""
    match expectation:
        case GroupExpectation():
            yield from _group_faults(expectation, depth)
        case SchemaExpectation():
            for path, fault in schema_faults(expectation.schema_):
                yield f"{'.'.join(str(name) for name in ('schema', *path))}: {fault}"
        case TextExpectation():
            yield from _text_faults(expectation)
        case LabelExpectation() if not expectation.value.strip():
            yield "value: must have a character that is not white space"
        case NumberExpectation():
            yield from _tolerance_faults(expectation.tolerance)
        case OverlapExpectation():
            if not _WORD.search(expectation.value):
                yield "value: must have a letter or a digit, because only words are compared"
            if not 0 < exact(expectation.min) <= 1:
                yield f"min: must be more than 0 and at most 1, not {expectation.min}"
        case LengthExpectation():
            yield from _length_faults(expectation.min, expectation.max)
        case _:
            pass


def _text_faults(expectation: TextExpectation) -> Iterator[str]:
    if not expectation.trim and expectation.type in ("contains", "not_contains"):
        yield f"trim: not allowed for {expectation.type}, which compares white space at both ends anyway"
    if expectation.type != "equals" and (expectation.until or expectation.extract or expectation.ignore):
        yield "until, extract and ignore: only allowed for equals"
    patterns = [("extract.pattern", expectation.extract.pattern)] if expectation.extract else []
    for path, pattern in patterns + [(f"ignore.{i}", each) for i, each in enumerate(expectation.ignore)]:
        yield from _pattern_faults(path, pattern)
    if expectation.type != "regex":
        if expectation.dialect != "Python":
            yield "dialect: only allowed for regex"
        compared = without_differences(expectation.value, expectation.normalize)
        is_part = expectation.type in ("contains", "not_contains") or not expectation.trim
        if not (compared if is_part else compared.strip()):
            yield f"value: {expectation.value!r} has nothing that is compared, so every output has it"
        return
    if not set(expectation.normalize) <= {"Case", "LowerCase"}:
        yield "normalize: only Case and LowerCase are allowed for regex"
    if expectation.dialect == "JavaScript":
        try:
            python_pattern(expectation.value)
        except EcmaRegexError as error:
            yield f"value: not a supported regular expression of JavaScript: {error}"
        return
    yield from _pattern_faults("value", expectation.value)


def _pattern_faults(path: str, pattern: str) -> Iterator[str]:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        yield f"{path}: not a valid Python regular expression: {error}"


def _length_faults(least: int | None, most: int | None) -> Iterator[str]:
    if least is None and most is None:
        yield "give min, max or both"
    elif least is not None and most is not None and least > most:
        yield f"min {least} is greater than max {most}, so no output can pass"
    elif least == 0 and most is None:
        yield "min: 0 without max passes every output"


def _tolerance_faults(tolerance: CaseTolerance | None) -> Iterator[str]:
    if tolerance is None:
        return
    if tolerance.absolute is None and tolerance.relative is None:
        yield "tolerance: give absolute, relative or both, or leave tolerance out"
    if tolerance.absolute is not None and exact(tolerance.absolute) < 0:
        yield f"tolerance.absolute: must be at least 0, not {tolerance.absolute}"
    if tolerance.relative is not None and not 0 <= exact(tolerance.relative) <= 1:
        yield f"tolerance.relative: must be at least 0 and at most 1, not {tolerance.relative}"


def _group_faults(group: GroupExpectation, depth: int) -> Iterator[str]:
    if depth > MAX_DEPTH:
        yield f"of: at most {MAX_DEPTH} groups may be inside each other"
        return
    if group.min is not None and group.type == "all":
        yield "min: only allowed for any"
    elif group.needed > len(group.of):
        yield f"min: {group.min} of {len(group.of)} expectations cannot pass"
    for index, each in enumerate(group.of):
        yield from (f"of.{index}.{fault}" for fault in _faults(each, depth + 1))
