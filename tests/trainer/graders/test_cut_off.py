"""Outputs that were cut off: they fail if no continuation could pass, for each type of expectation."""

import json
import re
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from support.tiny_model import make_tokenizer
from tunegate_api.cases.case_lines import parse_cases
from tunegate_api.cases.expectations import Leaf
from tunegate_api.cases.golden import GoldenCase
from tunegate_api.messages import FunctionCall, Message, ToolCall
from tunegate_api.v1alpha2.finetunejob import MetricType
from tunegate_api.verdict.outcomes import ERROR, FAIL, PASS, TRUNCATED
from tunegate_trainer.evaluate.expected import expected_outputs, outlook
from tunegate_trainer.evaluate.generate import read_output
from tunegate_trainer.evaluate.golden_references import golden_labels, plain_reference
from tunegate_trainer.evaluate.scoring import score_cases
from tunegate_trainer.evaluate.sets import Case
from tunegate_trainer.graders import Output, Sample, Score
from tunegate_trainer.graders.exact.expected_text import ExpectedText
from tunegate_trainer.graders.grader import Outlook, always_open
from tunegate_trainer.graders.table import GRADERS, METRICS
from tunegate_trainer.tokens.reasoning import ReasoningMarks
from tunegate_trainer.tokens.rows import Row

CLOSED_TYPES = {
    name for name, grader in [*GRADERS.items(), *METRICS.items()] if grader.outlook is not always_open
}
OPEN_TYPES = {"regex", "custom", "judge", "guardrail", "F1", "ToolCalls", "Custom", "PreferenceAccuracy"}
"""Types whose outputs that were cut off stay open, and count-based metrics, which have rules of their own."""
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>'
REFUSED = "I'm sorry, but I can't help with that."
LONG = "The sea is calm today, and the boats are in the harbour. " * 6


def parse(*expectations: dict[str, Any]) -> GoldenCase:
    (parsed,) = parse_cases(json.dumps({"id": "case", "prompt": "?", "expect": expectations}), GoldenCase)
    return parsed


def prepared(golden: GoldenCase) -> Case:
    def reference(leaf: Leaf) -> Any:
        return CALL if leaf.type == "tool_calls_equal" else plain_reference(leaf, golden_labels([golden]))

    # Like the graders of servers and users, that of regex is always open.
    expected = expected_outputs(
        golden.expect, lambda leaf: GRADERS.get(leaf.type, GRADERS["regex"]), reference
    )
    return Case("case", [], "?", "?", golden, {"golden": expected})


def score(output: Output, *expectations: dict[str, Any]) -> Score:
    (scores,) = score_cases([prepared(parse(*expectations))], [output])
    return scores["golden"]


def outcome(text: str, *expectations: dict[str, Any]) -> str:
    return score(Output(text, truncated=True), *expectations).outcome


def equals(value: str, **fields: Any) -> dict[str, Any]:
    return {"type": "equals", "value": value, **fields}


def text(kind: str, value: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "value": value, **fields}


def test_every_type_has_an_outlook_or_stays_open():
    types = {kind for one in get_args(Leaf) for kind in get_args(one.model_fields["type"].annotation)}
    metrics = set(get_args(MetricType))
    assert types | metrics == CLOSED_TYPES | OPEN_TYPES
    assert not CLOSED_TYPES & OPEN_TYPES


RIGHT_SO_FAR = [
    ("in the middle of the answer", "network err", equals("network error")),
    ("right after the answer", "network error", equals("network error")),
    ("after white space", " \nnetwork error \n", equals("network error")),
    ("before any text", "", equals("network error")),
    ("in a label", "NETWORK e", text("label", "network error")),
    ("right after a label", "Network Error ", text("label", "network error")),
    ("in a text to start with", "Dea", text("starts_with", "Dear")),
    ("after a text to start with", "Dear customer, thank", text("starts_with", "Dear")),
    ("in white space that a text ends with", "Answer: \n", text("starts_with", "Answer: ")),
    ("before a text to contain", "Hello", text("contains", "thank you")),
    ("after a text to contain", "Hello, thank you for", text("contains", "thank you")),
    ("without an excluded text", "Hello", text("not_contains", "angry")),
    ("for a pattern", "the sea", text("regex", "^[0-9]+$")),
    ("in a number", "4", text("numeric", "42")),
    ("after a number", "It is 42, and", text("numeric", "42")),
    ("before a number", "It is", text("numeric", "42")),
    ("in words", "the red", text("rouge_l", "the red mug", min="0.9")),
    ("in words in any order", "mug the", text("word_f1", "the red mug", min="0.9")),
    ("within a length", "a b c", {"type": "length", "unit": "Words", "max": 3}),
    ("before the least length", "a b c", {"type": "length", "unit": "Words", "min": 5}),
    ("above the least length", "a b c d e f", {"type": "length", "unit": "Words", "min": 5}),
    ("before a refusal", "I'm sorry, but", {"type": "refusal"}),
    ("after a refusal", REFUSED, {"type": "refusal"}),
    ("in JSON", '{"item": "mu', {"type": "json_schema", "schema": {"type": "object"}}),
    ("after JSON", '{"item": "mug"}', {"type": "json_equals", "value": {"item": "mug"}}),
    ("in a JSON literal", "tru", {"type": "json_equals", "value": True}),
    ("in a JSON number", "[1.", {"type": "json_equals", "value": [1.5]}),
    ("in JSON with half of a surrogate pair", '"\\ud83d', {"type": "json_equals", "value": "😀"}),
    ("with half of a character", '"\ud83d', {"type": "json_equals", "value": "yes"}),
    ("in a call", CALL[:30], {"type": "tool_calls_equal", "value": [{"name": "weather"}]}),
    ("before the marks of a call", "<tool", {"type": "tool_calls_equal", "value": [{"name": "weather"}]}),
    ("for a judge", "the sea", {"type": "judge"}),
    ("for a guardrail", "the sea", {"type": "guardrail"}),
    ("for a custom scorer", "the sea", {"type": "custom", "entryPoint": "mine"}),
    ("for an answer that a pattern finds", "the sea", equals("42", extract={"pattern": "is (.+)"})),
    ("for an answer without ignored parts", "#the", equals("sea", ignore=["#.*"])),
    ("in an answer that a text ends", "yes\n", equals("yes", until=["\n\n"])),
    ("after an answer that a text has ended", "yes\nQ: no", equals("yes", until=["\n"])),
    ("in a character", "stra\ufffd", equals("straße")),
    ("before a mark that is combined", "e", equals("é", normalize=["Unicode"])),
    ("in a syllable that is combined", "\u1112\u1161", equals("\ud55c", normalize=["Unicode"])),
    ("in a text without case", "STRASS", equals("straße nord", normalize=["Case"])),
    ("in a word that ends with sigma", "ΟΔΟΣ", equals("οδοσα", normalize=["LowerCase"])),
    ("after punctuation", "net-work", equals("network error", normalize=["Punctuation"])),
    ("in white space", "a  ", equals("a b", normalize=["WhiteSpace"])),
    ("with white space that counts", "a ", equals("a b", trim=False)),
]
WRONG_ALREADY = [
    ("another answer", "The error", equals("network error")),
    ("more than the answer", "network errors", equals("network error")),
    ("an answer in other case", "Network", equals("network error")),
    ("white space that counts", " a", equals("a b", trim=False)),
    ("another label", "The error is", text("label", "network error")),
    ("another start", "Hello, dear", text("starts_with", "Dear")),
    ("an excluded text", "Hello, angry customer", text("not_contains", "angry")),
    ("an excluded pattern of words", "the angry", text("contains", "angry", **{"not": True})),
    ("another number", "It is 41, and", text("numeric", "42")),
    ("many other words", "the sea is calm today and", text("rouge_l", "the red mug", min="0.9")),
    ("too many words", "the the the red red mug mug", text("word_f1", "the red mug", min="0.9")),
    ("too long a text", "a b c d", {"type": "length", "unit": "Words", "max": 3}),
    ("a start that refuses nothing", LONG, {"type": "refusal"}),
    ("a start that refuses", f"{REFUSED} {LONG}", {"type": "refusal", "not": True}),
    ("prose instead of JSON", "Sure, here", {"type": "json_schema", "schema": {"type": "object"}}),
    ("text after JSON", '{"a": 1} is', {"type": "json_equals", "value": {"a": 1}}),
    ("a fence before JSON", "```json", {"type": "json_equals", "value": {"a": 1}}),
    ("prose instead of a call", "The weather", {"type": "tool_calls_equal", "value": [{"name": "weather"}]}),
    ("an answer that a text has ended", "no\nyes", equals("yes", until=["\n"])),
    ("another text before a cut character", "stre\ufffd", equals("straße")),
    ("another character that is combined", "öb", equals("é", normalize=["Unicode"])),
    ("another text without case", "STREET", equals("straße", normalize=["Case"])),
    ("a wrong one of all", "The error", {"type": "all", "of": [equals("yes"), text("contains", "y")]}),
    (
        "wrong ones of any",
        "The",
        {"type": "any", "of": [equals("yes"), equals("no"), text("label", "maybe")]},
    ),
    (
        "too few of at least two",
        "The error",
        {"type": "any", "min": 2, "of": [equals("yes"), equals("no"), text("regex", "error")]},
    ),
    (
        "a passed group that is excluded",
        "The",
        {"type": "all", "of": [equals("yes", **{"not": True})], "not": True},
    ),
]
OPEN_GROUPS = [
    ("one of any that is open", "The", {"type": "any", "of": [equals("yes"), text("regex", "[0-9]")]}),
    ("an excluded answer", "y", equals("yes", **{"not": True})),
    ("an excluded answer that is wrong", "The error", equals("yes", **{"not": True})),
    ("an excluded judge", "The error", {"type": "judge", "not": True}),
    (
        "an excluded group that is open",
        "The error",
        {"type": "any", "of": [equals("yes"), text("regex", "^T.e$")], "not": True},
    ),
]


def parametrized(cases: list[tuple[str, str, dict[str, Any]]]) -> Any:
    return pytest.mark.parametrize(
        ("output", "expectation"), [each[1:] for each in cases], ids=[each[0] for each in cases]
    )


@parametrized(RIGHT_SO_FAR + OPEN_GROUPS)
def test_output_that_could_have_passed_is_truncated(output, expectation):
    assert outcome(output, expectation) == TRUNCATED


@parametrized(WRONG_ALREADY)
def test_output_that_no_continuation_could_save_fails(output, expectation):
    found = score(Output(output, truncated=True), expectation)
    assert found.outcome == FAIL
    assert found.explanation.endswith(
        "by maxNewTokens or the context of the model, and no continuation of it could pass"
    )


def test_all_expectations_of_a_case_must_be_reachable():
    assert outcome("The error", text("contains", "yes"), equals("The error is x")) == TRUNCATED
    assert outcome("The error", text("contains", "yes"), equals("yes")) == FAIL


def test_output_that_further_tokens_may_replace_is_truncated():
    """Reasoning that has not ended is no part of the answer."""
    assert score(Output("The error", truncated=True, settled=0), equals("yes")).outcome == TRUNCATED
    assert score(Output("no, yes", truncated=True, settled=2), equals("yes")).outcome == FAIL


@pytest.mark.parametrize(("answer", "found"), [("ye", TRUNCATED), ("The", FAIL)])
def test_task_metric_uses_the_same_rule_as_golden_cases(answer, found):
    row = Row(id="row", prompt=[Message(role="user", content="?")], completion="yes")
    sample = Sample("?", answer, ExpectedText("yes"), row)
    is_failing = METRICS["ExactMatch"].outlook(sample) is Outlook.FAILS
    assert is_failing is (found == FAIL)


def test_tool_call_metric_compares_the_start_of_the_calls():
    call = ToolCall(function=FunctionCall(name="weather", arguments={"city": "Oslo"}))
    row = Row(id="row", prompt=[Message(role="user", content="?")], completion="", tool_calls=[call])
    reads = [Sample("?", each, ExpectedText(CALL), row) for each in ("<tool_", "It is")]
    assert [METRICS["ExactMatch"].outlook(each) for each in reads] == [Outlook.OPEN, Outlook.FAILS]


# Any continuation of an output is scored by the scorers themselves.

PIECES = (
    *(
        "yes",
        "no",
        "network",
        " error",
        " ",
        "\n",
        "Q:",
        ".",
        ",",
        "-",
        "42",
        "4",
        "1,234",
        "e5",
        "é",
        "e\u0301",
    ),
    *(
        "ß",
        "SS",
        "Σ",
        "\u03c3",
        "ς",
        "ﬁ",
        "𝚺",
        "\u1112",
        "\u1161",
        "\u11ab",
        "\u0301",
        "\u09c7",
        "\u09be",
        "İ",
        "'",
    ),
    *(
        '{"a"',
        ":",
        " 1",
        "}",
        "[",
        "]",
        '"',
        "\\u",
        "\\ud83d",
        "\\ude00",
        "d8",
        "true",
        "nul",
        "l",
        "NaN",
        "\x0b",
    ),
    *(
        "<tool_call>",
        '{"name": "weather", "arguments": {"city": "Oslo"}}',
        "</tool_call>",
        "the red mug",
        "mug",
    ),
    *(REFUSED, "I can't help but ", "“", "`", LONG[:100], LONG, "\u00a0", "\u2212", "+", "\t"),
)
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=6).map("".join)
WORDS = TEXTS.filter(lambda each: bool(re.search(r"[^\W_]", each)) and bool(each.strip()))
FORMS = st.lists(
    st.sampled_from(("Unicode", "Case", "LowerCase", "Punctuation", "AsciiPunctuation", "WhiteSpace")),
    max_size=3,
    unique=True,
)
JSON_VALUES = st.sampled_from(({"a": 1}, 1, 42, "yes", True, None, [1], [], "é", 1.5, {"a": {"a": [1]}}))
NOT = st.booleans()


@st.composite
def leaves(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(sorted(CLOSED_TYPES - {"exact_match"} | {"regex"})))
    found: dict[str, Any] = {"type": kind, "not": draw(NOT)}
    if kind in ("equals", "starts_with", "contains", "not_contains"):
        found |= {"value": draw(WORDS), "normalize": draw(FORMS)}
        if kind in ("equals", "starts_with"):
            found["trim"] = draw(st.booleans())
        if kind == "equals":
            found["until"] = draw(st.lists(st.sampled_from(PIECES), max_size=2))
    elif kind == "label":
        found["value"] = draw(WORDS)
    elif kind in ("rouge_l", "word_f1"):
        found |= {"value": draw(WORDS), "min": draw(st.sampled_from(("0.1", "0.5", "0.9", "1")))}
    elif kind == "regex":
        found["value"] = draw(st.sampled_from(("^yes$", "42", r"\bno\b", "^(yes|no)")))
    elif kind == "numeric":
        found["value"] = draw(st.sampled_from(("42", "4", "1234", "-3")))
    elif kind == "length":
        found |= {
            "unit": draw(st.sampled_from(("Characters", "Words", "Lines"))),
            "max": draw(st.integers(1, 30)),
        }
        found |= {"min": draw(st.integers(1, found["max"]))} if draw(st.booleans()) else {}
    elif kind == "json_schema":
        found["schema"] = {"type": draw(st.sampled_from(("object", "number", "string", "array")))}
    elif kind == "json_equals":
        found["value"] = draw(JSON_VALUES)
    elif kind == "tool_calls_equal":
        found["value"] = [{"name": "weather", "arguments": {"city": "Oslo"}}]
    return found


def groups(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    @st.composite
    def build(draw: st.DrawFn) -> dict[str, Any]:
        found = {
            "type": draw(st.sampled_from(("all", "any"))),
            "of": draw(st.lists(inner, min_size=1, max_size=3)),
        }
        if found["type"] == "any":
            found["min"] = draw(st.integers(1, len(found["of"])))
        return {**found, "not": draw(NOT)}

    return build()


def is_allowed(expectation: dict[str, Any]) -> bool:
    try:
        parse(expectation)
    except ValueError:
        return False
    return True


EXPECTATIONS = (leaves() | groups(leaves()) | groups(groups(leaves()))).filter(is_allowed)


@st.composite
def starts(draw: st.DrawFn, expectation: dict[str, Any]) -> str:
    """Return a text, often one of those that the expectation is about, or its start."""
    value = expectation.get("value")
    about = value if isinstance(value, str) else CALL if isinstance(value, list) else json.dumps(value)
    chosen = draw(st.sampled_from([about, about.upper(), about.lower(), ""])) + draw(TEXTS)
    return chosen[: draw(st.integers(0, len(chosen)))] if draw(st.booleans()) else chosen


@st.composite
def continued(draw: st.DrawFn) -> tuple[dict[str, Any], str, str]:
    expectation = draw(EXPECTATIONS)
    start = draw(starts(expectation))
    value = expectation.get("value")
    rest = draw(TEXTS)
    if isinstance(value, str) and draw(st.booleans()):
        rest = value[draw(st.integers(0, len(value))) :] + rest
    return expectation, start, rest


@given(continued())
@example((equals("οδοσα", normalize=["LowerCase"]), "ΟΔΟΣ", "\u0391"))
@example((equals("é", normalize=["Unicode"]), "e", "\u0301"))
@example((text("contains", "e", normalize=["Unicode"]), "e", "\u0301"))
@example(({"type": "json_equals", "value": "😀"}, '"\\ud83d', '\\ude00"'))
@example((text("numeric", "1234"), "1,234", ",5"))
@settings(max_examples=300, deadline=None)
def test_no_continuation_contradicts_the_outlook(drawn):
    expectation, start, rest = drawn
    case = prepared(parse(expectation))
    found = outlook(case.measures["golden"], lambda each: Sample("?", start, each.reference, case.source))
    if found is Outlook.OPEN:
        return
    (scores,) = score_cases([case], [Output(start + rest, truncated=False)])
    allowed = {Outlook.FAILS: (FAIL, ERROR), Outlook.PASSES: (PASS, FAIL, ERROR)}[found]
    if found is Outlook.PASSES and (start + rest).strip():  # an empty output fails in any case
        allowed = (PASS, ERROR)
    assert scores["golden"].outcome in allowed


@given(continued())
@settings(max_examples=50, deadline=None)
def test_truncated_output_never_passes(drawn):
    expectation, start, _ = drawn
    assert outcome(start, expectation) in (TRUNCATED, FAIL)


# What further tokens can change about the text of an output.


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with tokens for single bytes, as SentencePiece has."""
    vocabulary = {"<unk>": 0, "<stop>": 1, "no": 2, "yes": 3} | {f"<0x{i:02X}>": 4 + i for i in range(256)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<stop>", unk_token="<unk>")


def byte_level() -> PreTrainedTokenizerFast:
    return make_tokenizer()


def read(tokenizer: Any, ids: list[int]) -> Output:
    return read_output(tokenizer, "?", ids, [tokenizer.eos_token_id], None)


@pytest.mark.parametrize("make", [byte_tokenizer, byte_level])
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_text_of_later_tokens_starts_with_the_settled_text(make: Callable[[], Any], data):
    tokenizer = make()
    tokens = st.lists(st.integers(2, len(tokenizer) - 1), min_size=1, max_size=5)
    ids, more = data.draw(tokens), data.draw(tokens)
    assert read(tokenizer, ids + more).text.startswith(read(tokenizer, ids).start)


def test_bytes_at_the_end_of_an_output_are_not_settled():
    tokenizer = byte_tokenizer()
    ids = [2, *(4 + byte for byte in "é".encode())]
    assert (read(tokenizer, ids).text, read(tokenizer, ids).start) == ("noé", "no")
    assert read(tokenizer, [*ids, 3]).start == "noéyes"


THINK = ReasoningMarks("<think>", "</think>", "</think>")
CHANNELS = ReasoningMarks(
    opens="<|channel|>analysis<|message|>",
    closes="<|end|><|start|>assistant<|channel|>final<|message|>",
    closes_before_call="<|end|><|start|>assistant",
    skipped="<|channel|>final<|message|>",
)
"""Delimiters of reasoning in a template with a header before each answer."""


def start_of(output: str, marks: ReasoningMarks, prompt: str = "?") -> str:
    """Return the settled text of an output that was cut off."""
    tokenizer = make_tokenizer()
    return read_output(tokenizer, prompt, tokenizer.encode(output), [tokenizer.eos_token_id], marks).start


@pytest.mark.parametrize(
    ("output", "settled"),
    [
        ("<think>please send", ""),
        ("\n<think>please</think>yes", "yes"),
        ("<thi", ""),
        (" \n", ""),
        ("please send", "please send"),
        ("please</think>yes", "please</think>yes"),
        ("<thick", "<thick"),
    ],
)
def test_only_open_reasoning_leaves_an_output_unsettled(output, settled):
    assert start_of(output, THINK) == settled


def test_output_is_unsettled_if_the_prompt_opens_its_reasoning():
    assert start_of("please send", THINK, "<think>\n") == ""
    assert start_of("please</think>yes", THINK, "<think>\n") == "yes"
    assert start_of("please send", THINK, "<think>\n\n</think>\n\n") == "please send"


def test_output_is_unsettled_if_reasoning_has_no_opening_delimiter():
    assert start_of("please send", ReasoningMarks("", "</think>", "</think>")) == ""


@pytest.mark.parametrize(
    ("output", "settled"),
    [
        ("<|channel|>final<|message|>yes", "yes"),
        ("<|channel|>final<|mes", ""),
        ("<|channel|>analysis<|message|>yes", ""),
        ("<|channel|>commentary<|message|>yes", ""),
    ],
)
def test_header_of_an_answer_settles_that_it_has_no_reasoning(output, settled):
    assert start_of(output, CHANNELS) == settled


MARKED = st.lists(
    st.sampled_from(("<think>", "</think>", "<th", "ink>", "no", "yes", " ", "\n", "é", "<|channel|>"))
    | st.sampled_from(("final<|message|>", "analysis<|message|>", "<|end|><|start|>assistant")),
    max_size=6,
).map("".join)


@pytest.mark.parametrize("marks", [THINK, CHANNELS], ids=["tags", "channels"])
@pytest.mark.parametrize("prompt", ["?", "<think>\n"], ids=["question", "open"])
@given(output=MARKED, more=MARKED)
def test_answer_of_later_tokens_starts_with_the_settled_answer(prompt, marks, output, more):
    assert start_of(output + more, marks, prompt).startswith(start_of(output, marks, prompt))
