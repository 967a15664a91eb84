"""The scorers of task metrics: labels, numbers, ROUGE-L, normalization, tool calls and scorers of a user."""

import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from support.installed import install
from tunegate_api.messages import Message
from tunegate_api.verdict.counts import Classification, Counts
from tunegate_trainer.graders import FAIL, PASS, Sample, Score, custom
from tunegate_trainer.graders.custom import CustomGrader, custom_grader
from tunegate_trainer.graders.exact.expected_text import ExpectedText
from tunegate_trainer.graders.exact.labels import ExpectedLabel, f1_label, label_indices, shown_labels
from tunegate_trainer.graders.exact.numeric import ExpectedNumber, numbers_of
from tunegate_trainer.graders.exact.rouge import ExpectedOverlap, rouge_tokens
from tunegate_trainer.graders.exact.tool_calls import ExpectedCalls
from tunegate_trainer.graders.table import METRICS
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.tokens.rows import Row

ROW = Row(id="row", prompt=[Message(role="user", content="?")], completion="yes")
OSLO = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
ROME = OSLO.replace("Oslo", "Rome")


def score(metric: str, output: str, reference: object) -> Score:
    (scored,) = METRICS[metric].score([Sample("?", output, reference, ROW)])
    return scored


@pytest.mark.parametrize(
    ("output", "predicted", "explanation"),
    [
        ("Refund", 1, ""),
        (" refund\n", 1, ""),
        ("\uff32\uff25\uff26\uff35\uff2e\uff24", 1, ""),  # full-width letters
        ("order", 0, "is 'order', expected 'refund'"),
        ("refund!", None, "is not one of the labels, expected 'refund'"),
        ("", None, "is not one of the labels, expected 'refund'"),
    ],
)
def test_label_is_the_whole_answer_without_case_and_outer_space(output, predicted, explanation):
    labels = label_indices(["Order", "REFUND ", "refund"])
    scored = score("F1", output, ExpectedLabel(f1_label("REFUND "), labels))
    assert scored == Score(FAIL if explanation else PASS, explanation, Classification(1, predicted))


def test_reported_labels_are_cut_and_too_many_are_left_out():
    assert shown_labels(["a", "b" * 65]) == ["a", "b" * 63 + "…"]
    assert shown_labels([str(i) for i in range(201)]) is None


@pytest.mark.parametrize(
    ("output", "answer", "numerator", "denominator"),
    [
        # The examples of Lin 2004, section 3: LCS 3 of 4 and 4 words, and LCS 2.
        ("police kill the gunman", "police killed the gunman", 6, 8),
        ("the gunman kill police", "police killed the gunman", 4, 8),
        ("A-b, C", "a b c", 6, 6),
        ("Ä ß 東京", "ä ß 東京", 6, 6),
        ("", "a b", 0, 2),
        ("!", "?", 0, 1),
        ("a b", "a", 2, 3),
    ],
)
def test_rouge_l_is_twice_the_common_subsequence_over_both_lengths(output, answer, numerator, denominator):
    scored = score("RougeL", output, ExpectedOverlap(answer))
    assert scored.counts == Counts(numerator, denominator)
    assert scored.outcome == (PASS if numerator == denominator else FAIL)


def test_rouge_l_of_long_texts_stays_within_the_largest_count():
    scored = score("RougeL", "a " * 100_000, ExpectedOverlap("a " * 200_000))
    assert scored.counts == Counts(99_998, 99_998)


def test_rouge_tokens_of_ascii_text_are_those_of_rouge_score():
    # What rouge_score.tokenize.tokenize(text, None) returns.
    text = "It's 3.5 % of_all -- U.S.A.\nDone."
    assert rouge_tokens(text) == ["it", "s", "3", "5", "of", "all", "u", "s", "a", "done"]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("It is 42.", ["42"]),
        ("$1,234.50 (net)", ["1234.5"]),
        ("-3 and +4", ["-3", "4"]),
        ("\u22123 °C", ["-3"]),
        ("3-5 days", ["3", "5"]),
        ("GPT-4", ["4"]),
        ("1e-3, 2.5E2", ["0.001", "250"]),
        (".5", ["0.5"]),
        ("1.234,5", ["1.234", "5"]),
        ("1,23", ["1", "23"]),
        ("12,345,67", ["12345", "67"]),
        ("2026-11-28", ["2026", "11", "28"]),
        ("12 %", ["12"]),
        ("none", []),
        ("9" * 500, []),
        ("\u0663", []),
    ],
)
def test_numbers_of_a_text_are_read_exactly(text, numbers):
    assert numbers_of(text) == [Fraction(each) for each in numbers]


@pytest.mark.parametrize(
    ("output", "absolute", "relative", "outcome"),
    [
        ("100", "0", "0", PASS),
        ("100.0 kg", "0", "0", PASS),
        ("101", "0", "0", FAIL),
        ("101", "1", "0", PASS),
        ("101.01", "1", "0", FAIL),
        ("95", "1", "0.05", PASS),
        ("94.9", "1", "0.05", FAIL),
        ("99 or 100", "0", "0", FAIL),
        ("unknown", "1", "1", FAIL),
    ],
)
def test_first_number_must_be_within_the_larger_tolerance(output, absolute, relative, outcome):
    reference = ExpectedNumber("100 kg", Fraction(absolute), Fraction(relative))
    assert score("Numeric", output, reference).outcome == outcome


def test_wrong_number_is_explained_with_the_tolerance():
    scored = score("Numeric", "1,250", ExpectedNumber("1200", relative=Fraction(1, 100)))
    assert scored.explanation == "has 1250, expected 1200 with a tolerance of 12"


@pytest.mark.parametrize(
    ("output", "normalize", "outcome"),
    [
        ("The Red Mug.", (), FAIL),
        ("The red mug ", (), PASS),
        ("the RED mug", ("Case",), PASS),
        ("The  red\nmug", ("WhiteSpace",), PASS),
        ("The  red\nmug", ("Case",), FAIL),
        ("The, red mug!", ("Punctuation",), PASS),
        ("The , red mug", ("Punctuation",), FAIL),
        ("The , red mug", ("Punctuation", "WhiteSpace"), PASS),
        ("The red \uff4dug", ("Unicode",), PASS),
    ],
)
def test_exact_match_ignores_only_the_named_differences(output, normalize, outcome):
    assert score("ExactMatch", output, ExpectedText("The red mug", normalize)).outcome == outcome


@pytest.mark.parametrize(
    ("output", "expected", "explanation"),
    [
        (OSLO, OSLO, ""),
        (f"Let me look.\n{OSLO}", OSLO, ""),
        (ROME, OSLO, "does not call"),
        (f"{OSLO}\n{ROME}", OSLO, "does not call"),
        ("It is cold.", OSLO, "has no tool call, expected"),
        ("It is cold.", "", ""),
        (OSLO, "", "has the tool call '<tool_call>"),
    ],
)
def test_tool_calls_must_be_exactly_the_expected_ones(output, expected, explanation):
    scored = score("ToolCalls", output, ExpectedCalls(expected, re.compile("<tool_call>")))
    assert scored.outcome == (FAIL if explanation else PASS)
    assert scored.explanation.startswith(explanation)


class Half:
    """A scorer of a user that gives each output the value 0.5."""

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        return [Score(FAIL, "half", Counts(1, 2)) for _ in samples]


class Plain:
    """A scorer of a user without counts, which breaks the contract for the last sample."""

    def score(self, samples: Sequence[Sample]) -> list[object]:
        return [Score(PASS), Score(FAIL), None][: len(samples)]


half, plain, not_a_scorer = Half(), Plain(), "text"


ENTRY_POINTS = {
    "metrics": {
        "half": "half",
        "plain": "plain",
        "text": "not_a_scorer",
        "class": "Half",
        "missing-module": "nothing",
        "twice": "half",
    },
    "other-metrics": {"twice": "half"},
}
"""The scorers of this module that each package names in its entry points."""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install packages with the scorers of this module."""
    for package, points in ENTRY_POINTS.items():
        install(tmp_path, package, {name: f"{__name__}:{value}" for name, value in points.items()})
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("installed")
def test_entry_point_is_loaded_with_the_version_of_its_package():
    (scored,) = custom_grader("half").score([Sample("?", "a", "b", ROW)])
    assert scored.counts == Counts(1, 2)
    assert custom.custom_version("half") == "metrics 1.0"


@pytest.mark.usefixtures("installed")
def test_score_of_a_user_without_counts_is_one_or_zero():
    passed, failed, broken = custom_grader("plain").score([Sample("?", "a", "b", ROW)] * 3)
    assert passed == Score(PASS, counts=Counts(1, 1))
    assert failed == Score(FAIL, "no explanation", Counts(0, 1))
    assert broken.explanation == "could not be scored: ValueError: the scorer returned None"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("chrf", "no installed package has the entry point chrf", "installed: class, half, missing-module"),
        ("text", "the entry point text of tunegate.scorers is not a scorer", "an object with the method"),
        ("class", "the entry point class of tunegate.scorers is not a scorer", "not a class"),
        ("missing-module", "cannot be loaded from", "correct the package"),
        ("twice", "several packages .*: metrics, other-metrics", "remove all of these packages but one"),
    ],
)
def test_unusable_entry_point_is_refused_with_the_reason(name, message, hint):
    with pytest.raises(UserError, match=message) as raised:
        custom_grader(name)
    assert hint in raised.value.hint


def test_scorer_in_the_docs_gives_the_values_that_it_describes():
    page = (Path(__file__).parents[3] / "docs" / "task-metrics.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(# our_metrics.*?)```", page, re.DOTALL)
    module: dict[str, Any] = {}
    exec(code, module)  # noqa: S102 - the code of our own page
    samples = [Sample("?", output, "yes", ROW) for output in ("no", "yes, it is")]
    short, long = CustomGrader(module["length"]).score(samples)
    assert short == Score(PASS, counts=Counts(1, 1))
    assert long == Score(FAIL, "is 10 characters long", Counts(300, 1000))
