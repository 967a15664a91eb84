"""The check label_imbalance reports a label that almost all rows have."""

from dataclasses import replace
from fractions import Fraction

from support.usable_rows import NO_CONTEXT, usable_rows
from tunegate_trainer.checks import label_imbalance
from tunegate_trainer.checks.finding import Policy, Setting

CONTEXT = replace(NO_CONTEXT, settings={"label_imbalance": Setting(Policy.WARN, Fraction(9, 10))})


def rows_with(**counts):
    """Return rows with these labels, each in as many rows as is given."""
    labels = [label for label, count in counts.items() for _ in range(count)]
    return usable_rows([{"prompt": f"text {i}", "completion": label} for i, label in enumerate(labels)])


def test_label_in_more_rows_than_the_limit_is_reported():
    (finding,) = label_imbalance.run(rows_with(ham=90, Ham=4, spam=4, ad=2), CONTEXT)
    assert (finding.count, finding.share) == (94, Fraction(94, 100))
    assert finding.message == (
        "data.train: 94 of 100 rows (94.0%) have the label 'ham'; labels with fewer than 5 rows: 'ad' (2); "
        "'spam' (4)"
    )
    assert finding.examples[0] == "line 95 has the label 'spam'"
    assert finding.report == {"labels": {"ham": 94, "spam": 4, "ad": 2}}


def test_label_in_as_many_rows_as_the_limit_is_not_reported():
    assert label_imbalance.run(rows_with(ham=90, spam=10), CONTEXT) == []


def test_single_label_of_all_rows_is_reported_without_examples():
    (finding,) = label_imbalance.run(rows_with(ham=20), CONTEXT)
    assert (finding.share, list(finding.examples)) == (1, [])


def test_free_text_completions_have_no_imbalance():
    rows = usable_rows([{"prompt": f"text {i}", "completion": f"answer {i}"} for i in range(40)])
    assert label_imbalance.run(rows, CONTEXT) == []
