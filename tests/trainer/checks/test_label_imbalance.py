"""The check label_imbalance reports a label that almost all rows have."""

from dataclasses import replace
from fractions import Fraction

from support.usable_rows import NO_CONTEXT, usable_rows
from tunegate_api.v1alpha2.data_checks import CheckSetting
from tunegate_trainer.checks import label_imbalance
from tunegate_trainer.checks.runner import CheckRunner

CONTEXT = replace(NO_CONTEXT, settings={"label_imbalance": CheckSetting("Warn", Fraction(9, 10))})


def rows_with(**counts):
    """Return rows with these labels, each in as many rows as is given."""
    labels = [label for label, count in counts.items() for _ in range(count)]
    return usable_rows([{"prompt": f"text {i}", "completion": label} for i, label in enumerate(labels)])


def test_label_in_more_rows_than_the_limit_is_reported():
    (finding,) = label_imbalance.run(rows_with(ham=89, Ham=4, spam=4, ad=3), CONTEXT)
    assert (finding.count, finding.share) == (93, Fraction(93, 100))
    assert finding.message == (
        "93 of 100 rows (93.0%) have the label 'ham'; labels with fewer than 5 rows: 'ad' (3); 'spam' (4)"
    )
    assert finding.examples[0] == "line 94 has the label 'spam'"
    assert finding.report["labels"] == [
        {"label": "ham", "rows": 93},
        {"label": "spam", "rows": 4},
        {"label": "ad", "rows": 3},
    ]


def test_answers_in_one_or_two_rows_are_no_labels():
    odd = {f"oddity {i}": 1 for i in range(30)}
    (finding,) = label_imbalance.run(rows_with(ham=970, spam=4, twice=2, **odd), CONTEXT)
    assert finding.message.endswith("have the label 'ham'; labels with fewer than 5 rows: 'spam' (4)")
    assert [entry["label"] for entry in finding.report["labels"]] == ["ham", "spam"]


def test_counts_of_labels_that_are_equal_when_masked_are_reported():
    mails = {f"anna.adams{i}@example.com": 40 * i for i in (1, 24)}
    noted = []
    CheckRunner(CONTEXT, noted.append).run([label_imbalance], rows_with(**mails))
    assert noted[0]["labels"] == [{"label": "anna…", "rows": 960}, {"label": "anna…", "rows": 40}]


def test_label_in_exactly_the_limit_of_rows_is_not_reported():
    assert list(label_imbalance.run(rows_with(ham=90, spam=10), CONTEXT)) == []


def test_single_label_of_all_rows_is_reported_without_examples():
    (finding,) = label_imbalance.run(rows_with(ham=20), CONTEXT)
    assert (finding.share, list(finding.examples)) == (1, [])


def test_free_text_completions_have_no_imbalance():
    rows = usable_rows([{"prompt": f"text {i}", "completion": f"answer {i}"} for i in range(40)])
    assert list(label_imbalance.run(rows, CONTEXT)) == []
