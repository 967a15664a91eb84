"""Contradictions between the expectations of a golden case are found, and only if no output passes."""

import json
from collections.abc import Mapping
from math import inf
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from tunegate_api.cases.golden import GoldenCase
from tunegate_api.verdict.outcomes import PASS
from tunegate_trainer.evaluate.contradictions import contradiction
from tunegate_trainer.evaluate.expected import combined, expected_outputs, placed
from tunegate_trainer.evaluate.golden_references import plain_reference
from tunegate_trainer.evaluate.scoring import is_forbidden_empty
from tunegate_trainer.graders import Sample
from tunegate_trainer.graders.table import GRADERS

Fields = Mapping[str, Any]


def case(*expectations: Fields, **fields: object) -> GoldenCase:
    return GoldenCase.model_validate({"id": "a", "prompt": "?", "expect": expectations, **fields})


def expect(type_: str, value: object = None, **fields: object) -> Fields:
    return {"type": type_, **({} if value is None else {"value": value}), **fields}


def negated(expectation: Fields) -> Fields:
    return {**expectation, "not": True}


def group(type_: str, *of: Fields, **fields: object) -> Fields:
    return {"type": type_, "of": of, **fields}


def schema(**fields: object) -> Fields:
    return expect("json_schema", schema=fields)


def passes(golden: GoldenCase, output: str) -> bool:
    expected = expected_outputs(
        golden.expect, lambda leaf: GRADERS[leaf.type], lambda leaf: plain_reference(leaf, {})
    )
    scores = {
        place: each.scorer.score([Sample("", output, each.reference, golden)])[0]
        for place, each in placed(expected)
    }
    return combined(expected, scores).outcome == PASS and not is_forbidden_empty(golden, output)


CASE = {"normalize": ["Case"]}
NEAR = {"tolerance": {"absolute": "1"}}
DRAFT_4 = {"$schema": "http://json-schema.org/draft-04/schema#"}
DRAFT_7 = {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"x": {}}}
FIRST_LINE = {"until": ["\n"]}
A, B, C = expect("equals", "a"), expect("equals", "b"), expect("equals", "c")
HAS_A, HAS_B = expect("contains", "a"), expect("contains", "b")


@pytest.mark.parametrize(
    ("expectations", "reason"),
    [
        ([HAS_A, negated(HAS_A)], "both contains 'a' and not contains 'a'"),
        ([HAS_A, expect("not_contains", "a")], "both contains 'a' and not contains 'a'"),
        ([expect("refusal"), negated(expect("refusal"))], "both refusal and not refusal"),
        ([expect("contains", "refund"), expect("not_contains", "fun")], "'refund' and not contains 'fun'"),
        (
            [expect("contains", "Any"), expect("not_contains", "an", **CASE)],
            "contains 'Any' and not contains",
        ),
        (
            [expect("starts_with", " Any"), expect("not_contains", "Any")],
            "starts_with ' Any' and not contains",
        ),
        ([A, B], "both equals 'a' and equals 'b'"),
        ([A, expect("starts_with", "b")], "both equals 'a' and starts_with 'b'"),
        ([expect("equals", "a b"), expect("contains", "ba")], "both equals 'a b' and contains 'ba'"),
        ([A, expect("regex", "^b")], "both equals 'a' and regex '^b'"),
        ([expect("label", "refund"), expect("equals", "order")], "both equals 'order' and label 'refund'"),
        ([expect("label", "refund"), expect("label", "order")], "both label 'refund' and label 'order'"),
        (
            [expect("equals", "Yes", **CASE), expect("equals", "No", **CASE)],
            "both equals 'Yes' and equals 'No'",
        ),
        ([expect("equals", "It is 12."), expect("numeric", "13")], "equals 'It is 12.' and numeric '13'"),
        ([A, {"type": "json_schema", "schema": {}}], "both equals 'a' and json_schema"),
        (
            [expect("contains", "abcdef"), expect("length", max=3)],
            "both contains 'abcdef' and length of at most 3 characters",
        ),
        (
            [expect("length", min=10), expect("length", max=5)],
            "both length of at least 10 characters and length of at most 5 characters",
        ),
        (
            [expect("starts_with", "It is on its way"), expect("length", max=3, unit="Words")],
            "both starts_with 'It is on its way' and length of at most 3 words",
        ),
        ([A, expect("length", min=4)], "both equals 'a' and length of at least 4 characters"),
        ([expect("length", max=0)], "length of at most 0 characters without allowEmpty"),
        ([group("all", A, B)], "both equals 'a' and equals 'b'"),
        ([group("any", A, B, min=2)], "both equals 'a' and equals 'b'"),
        (
            [negated(group("any", HAS_A, HAS_B)), expect("contains", "ab")],
            "contains 'ab' and not contains 'a'",
        ),
        ([expect("judge"), HAS_A, negated(HAS_A)], "both contains 'a' and not contains 'a'"),
    ],
)
def test_expectations_that_no_output_passes_are_named(expectations, reason):
    assert reason in (contradiction(case(*expectations)) or "")


@pytest.mark.parametrize(
    ("output", "expectations"),
    [
        ("aB", [expect("contains", "a"), expect("not_contains", "b")]),
        ("e\u0301", [expect("contains", "e"), expect("not_contains", "e", normalize=["Unicode"])]),
        ("ab", [expect("contains", "ab"), expect("length", max=2), HAS_A, HAS_B]),
        ("\ufb03", [expect("contains", "ffi", **CASE), expect("length", max=1)]),
        ("a ", [A, expect("contains", "a ")]),
        ("a\nb", [expect("equals", "a", **FIRST_LINE), HAS_B]),
        ("12.5", [expect("numeric", "12", **NEAR), expect("numeric", "13", **NEAR)]),
        ("11", [expect("numeric", "12", **NEAR), negated(expect("numeric", "13", **NEAR))]),
        ("a", [expect("length", min=1, unit="Lines"), expect("length", max=1)]),
        ("12 13", [expect("numeric", "12"), expect("contains", "13")]),
        ("no", [negated(expect("numeric", "12")), negated(expect("numeric", "13"))]),
        ("1.0", [expect("json_equals", 1), schema(type="number")]),
        ("1", [expect("json_equals", 1.0), schema(**DRAFT_4, type="integer")]),
        ("\u00a0{}", [expect("equals", "{}"), negated(schema(type="object"))]),
        ("x\ny", [expect("regex", r"(?m)x\n^y")]),
        ("x\ny", [expect("regex", r"(?m)x$\ny")]),
        ("yes", [expect("regex", "(?i)YES", **CASE)]),
        ("yes", [expect("regex", "(?i:YES)", **CASE)]),
        (" a", [A, negated(expect("equals", "a", trim=False))]),
        ("[]", [schema(**DRAFT_7, **{"$ref": "#/definitions/x"}, type="object"), schema(type="array")]),
        ("b c", [group("any", HAS_A, HAS_B, expect("contains", "c"), min=2), expect("not_contains", "a")]),
        ("b", [negated(group("all", HAS_A, HAS_B)), HAS_B]),
        ("1e999", [expect("json_equals", inf), {"type": "json_equals", "value": None, "not": True}]),
        ("1e999", [expect("json_equals", inf), negated(expect("json_equals", -inf))]),
        ("1e999", [schema(const=inf), negated(schema(const=None))]),
        (
            '{"maxLength": 1}',
            [expect("json_equals", {"maxLength": 1.0}), schema(**{"$ref": DRAFT_4["$schema"]})],
        ),
    ],
)
def test_expectations_that_an_unusual_output_passes_do_not_contradict(output, expectations):
    golden = case(*expectations)
    assert passes(golden, output)
    assert contradiction(golden) is None


def test_empty_output_may_pass_with_allow_empty():
    assert contradiction(case(expect("length", max=0), allowEmpty=True)) is None


def test_alternatives_of_a_group_are_not_compared():
    assert contradiction(case(group("any", A, B), C)) is None
    assert contradiction(case(group("any", A, B), B, C)) == "both equals 'b' and equals 'c'"


def test_judge_that_answers_differently_may_pass_its_opposite():
    assert contradiction(case(expect("judge"), negated(expect("judge")))) is None


FORMS = ("Case", "LowerCase", "WhiteSpace", "Punctuation", "AsciiPunctuation", "Unicode")
PIECES = (
    *'aAbBß.-$^" \n\t0123{}[]:,',
    "\u00a0",
    "\u0301",
    "\ufb01",
    "İ",
    "Σ",
    "e",
    "é",
    "\r\n",
    "1.5",
    "I can't help.",
)
JSON = st.recursive(
    st.booleans() | st.integers(-2, 20) | st.sampled_from([None, 0.5, 1.0, 2e3, *PIECES]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)
TYPES = st.sampled_from(["array", "boolean", "integer", "null", "number", "object", "string"])
PATTERNS = st.lists(
    st.sampled_from(
        [*"aAB^$.|?+1", r"\n", r"\Z", "[A-B]", "[^A]", "(?i:A)", "(?!)", "(?=a)", "(a|B)", "(?m)"]
    ),
    min_size=1,
    max_size=4,
)
OUTPUTS = st.lists(st.sampled_from(PIECES), max_size=8).map("".join) | st.builds(
    lambda value, before, indent: before + json.dumps(value, indent=indent, ensure_ascii=False),
    JSON,
    st.sampled_from(["", " ", "\u00a0"]),
    st.sampled_from([None, 1]),
)


@st.composite
def leaf(draw: st.DrawFn, output: str) -> dict[str, Any]:
    """Return an expectation that an output often passes."""
    start, end = (draw(st.integers(0, len(output))) for _ in range(2))
    part = draw(st.sampled_from([output, output[:end], output[start:end], output[start:], *PIECES]))
    part = draw(st.sampled_from([part, part.lower(), part.upper(), part.strip(), f" {part}"]))
    forms = draw(st.lists(st.sampled_from(FORMS), max_size=2, unique=True))
    trim = {"trim": draw(st.booleans()), "normalize": forms}
    number = str(draw(st.sampled_from([0, 1, 2, 12, 1.5])))
    fields: dict[str, dict[str, Any]] = {
        "equals": {"value": part, **trim},
        "starts_with": {"value": part, **trim},
        "contains": {"value": part, "normalize": forms},
        "not_contains": {"value": part, "normalize": forms},
        "label": {"value": part},
        "regex": {"value": "".join(draw(PATTERNS)), **trim},
        "numeric": {"value": number, "tolerance": {"absolute": draw(st.sampled_from(["0", "1"]))}},
        "rouge_l": {"value": part, "min": "0.5"},
        "length": {
            "unit": draw(st.sampled_from(["Characters", "Words", "Lines"])),
            draw(st.sampled_from(["min", "max"])): draw(st.integers(0, 9)),
        },
        "refusal": {},
        "json_equals": {"value": json.loads(output) if _is_json(output) else draw(JSON)},
        "json_schema": {
            "schema": draw(st.dictionaries(st.just("type"), TYPES | st.lists(TYPES, min_size=1)))
        },
    }
    type_ = draw(st.sampled_from(sorted(fields)))
    if type_ == "equals" and draw(st.booleans()):
        fields[type_] |= draw(
            st.sampled_from(
                [{"until": ["a"]}, {"until": ["\n"]}, {"ignore": ["a"]}, {"extract": {"pattern": "[aAb].?"}}]
            )
        )
    return {"type": type_, **fields[type_]}


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@st.composite
def passed(draw: st.DrawFn, output: str, depth: int = 0) -> dict[str, Any]:
    """Return an expectation that an output passes."""
    found = draw(leaf(output))
    if depth < 2 and draw(st.integers(0, 3)) == 0:
        members = draw(st.lists(passed(output, depth + 1), min_size=1, max_size=2))
        others = draw(st.lists(leaf(output), max_size=2))
        found = draw(
            st.sampled_from([group("all", *members), group("any", *others, *members, min=len(members))])
        )
    for negation in (False, True):
        try:
            if passes(case({**found, "not": negation}, allowEmpty=True), output):
                return {**found, "not": negation}
        except ValidationError:
            assume(False)
    assume(False)
    raise AssertionError


@given(st.data())
def test_case_that_an_output_passes_has_no_contradiction(data):
    output = data.draw(OUTPUTS)
    expectations = data.draw(st.lists(passed(output), min_size=1, max_size=4))
    golden = case(*expectations, allowEmpty=not output.strip())
    assert passes(golden, output)
    assert contradiction(golden) is None


@given(st.data())
def test_no_output_passes_a_case_with_a_contradiction(data):
    outputs = data.draw(st.lists(OUTPUTS, min_size=1, max_size=20))
    try:
        golden = case(*data.draw(st.lists(leaf(outputs[0]), min_size=1, max_size=3)))
    except ValidationError:
        assume(False)
    if contradiction(golden):
        assert not any(passes(golden, output) for output in outputs)
