"""The check split_leakage refuses training rows that repeat held-out rows, and names both lines."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from support.usable_rows import NO_CONTEXT, JsonRow, measured_rows
from tunegate_trainer.checks import leaked_passages, split_leakage
from tunegate_trainer.checks.finding import Severity
from tunegate_trainer.checks.rows import SplitRows
from tunegate_trainer.data.documents import Documents
from tunegate_trainer.data.shingles import Template
from tunegate_trainer.data.sides import Sides
from tunegate_trainer.data.split import SIDES, Split

WORDS = [f"word{i}" for i in range(40)]
TEXT = " ".join(WORDS)


def row(prompt: str, completion: str = "yes") -> dict[str, object]:
    return {"prompt": prompt, "completion": completion}


def split_of(**sides: Sequence[JsonRow]) -> SplitRows:
    """Return a split of rows. Lines are counted on each side."""
    rows = {side: measured_rows(*sides.get(side, ())) for side in SIDES}
    template = Template.of(Documents([row for side in SIDES for row in rows[side]], []))
    return SplitRows(Split(**rows), Split([], [], []), [0] * len(rows["train"]), Sides({}), 0, template)


def test_near_duplicate_of_held_out_row_is_refused_with_lines():
    rows = split_of(
        train=[row("other"), row(TEXT.replace("word7", "new"))], dev=[row("dev row")], test=[row(TEXT)]
    )
    (finding,) = split_leakage.run(rows, NO_CONTEXT)
    assert finding.examples == ["line 2 repeats, except for the words new, line 1 (test)"]
    assert (finding.count, finding.share) == (1, Fraction(1, 2))
    assert finding.report["split_leakage"] == [{"train": "line 2", "test": "line 1"}]


def test_row_with_most_held_out_passages_is_refused():
    around = " ".join(f"other{i}" for i in range(80))
    held_out = [row(TEXT)]
    within = split_of(train=[row(f"{around} {' '.join(WORDS[:30])}")], dev=held_out)
    (finding,) = split_leakage.run(within, NO_CONTEXT)
    assert finding.examples == ['line 1 has 30 words "word0 word1 word2 word3 word4 word5 …" of line 1 (dev)']
    half = split_of(train=[row(f"{around} {' '.join(WORDS[:24])}")], dev=held_out)
    assert list(split_leakage.run(half, NO_CONTEXT)) == []


def test_rows_of_the_same_template_are_accepted():
    rows = [row(f"{TEXT}: item{i}", f"{i}") for i in range(40)]
    assert (
        list(split_leakage.run(split_of(train=rows[:30], dev=rows[30:35], test=rows[35:]), NO_CONTEXT)) == []
    )


def test_chat_with_masked_answers_may_repeat_a_held_out_chat():
    rows = split_of(train=[row(TEXT)], test=[row(TEXT, "no")])
    assert list(split_leakage.run(rows, NO_CONTEXT))
    assert list(split_leakage.run(replace(rows, masked=[1]), NO_CONTEXT)) == []


def test_similar_rows_that_were_split_apart_are_a_warning():
    rows = split_of(train=[row("other")], dev=[row(TEXT)])
    (finding,) = split_leakage.run(replace(rows, left_apart=31), NO_CONTEXT)
    assert finding.severity is Severity.WARNING
    assert finding.message.startswith("31 similar rows are too many to stay in one split")


def test_leaks_of_separated_similar_rows_are_one_finding():
    rows = split_of(train=[row("other"), row(TEXT, "no")], dev=[row(TEXT)])
    (finding,) = split_leakage.run(replace(rows, left_apart=31), NO_CONTEXT)
    assert (finding.severity, finding.count) == (Severity.ERROR, 1)
    assert "31 similar rows are too many to stay in one split" in finding.remedy


def test_report_lists_the_first_leaks_and_the_message_counts_all(monkeypatch):
    monkeypatch.setattr(leaked_passages, "REPORTED", 15)
    rows = split_of(train=[row(TEXT, f"answer {i}") for i in range(20)], test=[row(TEXT), row(TEXT, "no")])
    (finding,) = split_leakage.run(replace(rows, template=Template.of([])), NO_CONTEXT)
    assert finding.count == 20
    assert finding.message.endswith("; and 30 more")
    assert len(finding.report["split_leakage"]) == 15
