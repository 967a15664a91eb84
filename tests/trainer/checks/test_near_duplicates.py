"""The check near_duplicates names the rows that repeat an earlier row, and the words that differ."""

from fractions import Fraction

from support.usable_rows import NO_CONTEXT, usable_rows
from tunegate_trainer.checks import near_duplicates

TEXT = "The parcel arrived on Monday with a broken lid and nobody at the shop answers my calls about it"


def row(prompt: str, completion: str = "Send a new one.") -> dict[str, object]:
    return {"prompt": prompt, "completion": completion}


OTHERS = [row(f"topic{i} word{i} thing{i}", f"answer{i}") for i in range(17)]


def test_finding_names_both_lines_and_the_changed_words():
    rows = [row(TEXT), *OTHERS, row(TEXT.replace("Monday", "Friday")), row(TEXT.upper())]
    (finding,) = near_duplicates.run(usable_rows(rows), NO_CONTEXT)
    assert finding.examples == [
        "line 19 repeats line 1 except for the words friday",
        "line 20 repeats line 1 except for case, punctuation or white space",
    ]
    assert finding.message.startswith(
        "2 rows repeat an earlier row except for a few words (10.0% of all rows)"
    )
    assert (finding.count, finding.share) == (2, Fraction(1, 10))
    assert finding.report["near_duplicates"] == [
        {"row": "line 19", "repeats": "line 1"},
        {"row": "line 20", "repeats": "line 1"},
    ]


def test_missing_words_are_named_if_there_are_no_new_ones():
    rows = [row(TEXT), row(TEXT.replace("on Monday ", "")), *OTHERS]
    (finding,) = near_duplicates.run(usable_rows(rows), NO_CONTEXT)
    assert finding.examples == ["line 2 repeats line 1 without the words on, monday"]


def test_message_counts_the_rows_that_are_not_shown(monkeypatch):
    monkeypatch.setattr(near_duplicates, "REPORTED", 20)
    words = [f"word{i}" for i in range(60)]
    copies = [row(" ".join([*words[:i], "new", *words[i + 1 :]])) for i in range(30)]
    unrelated = [row(" ".join(f"text{n}word{i}" for i in range(20)), f"answer{n}") for n in range(3000)]
    (finding,) = near_duplicates.run(usable_rows([row(" ".join(words)), *copies, *unrelated]), NO_CONTEXT)
    assert finding.count == 30
    assert len(finding.examples) == 10
    assert finding.message.endswith("and 20 more")
    assert len(finding.report["near_duplicates"]) == 20


def test_pair_equal_to_a_row_is_no_duplicate():
    pair = {"prompt": TEXT, "chosen": "Send a new one.", "rejected": "No."}
    usable = usable_rows([row(TEXT), *OTHERS], [pair])
    assert usable.near_duplicates.repeating == [18]
    assert list(near_duplicates.run(usable, NO_CONTEXT)) == []
