"""The classifier two-sample test: its AUC, its interval, and which texts are in the same fold."""

import random
import string
import tracemalloc

import numpy as np
import pytest

from tunegate_trainer.checks.classifier import FOLDS, cross_validated_auc, separate

PLACES = ("Oslo", "Berlin", "Paris", "Rome", "Bern")
THINGS = ("mug", "lamp", "chair", "desk", "pen", "cup", "rug")


def requests(count: int, seed: int, *, things: tuple[str, ...] = THINGS) -> list[str]:
    order = random.Random(seed)
    return [
        f"please send {order.randint(1, 99)} {order.choice(things)}s to {order.choice(PLACES)}"
        for _ in range(count)
    ]


def test_auc_of_a_fold_is_the_mann_whitney_statistic():
    from scipy.stats import mannwhitneyu

    values = np.random.default_rng(0)
    scores = values.integers(0, 20, 90).astype(float)  # with ties
    labels = np.repeat([0, 1], [60, 30])
    auc, _ = cross_validated_auc(scores, labels, np.zeros(90, dtype=int))
    assert auc == pytest.approx(mannwhitneyu(scores[60:], scores[:60]).statistic / (60 * 30))


def test_interval_covers_the_true_auc_in_about_95_percent():
    values, covered, true = np.random.default_rng(1), 0, 0.7602  # of normal scores, one deviation apart
    labels, folds = np.repeat([0, 1], [150, 100]), np.arange(250) % FOLDS
    for _ in range(400):
        auc, error = cross_validated_auc(values.normal(labels.astype(float)), labels, folds)
        covered += abs(auc - true) <= 1.96 * error
    assert 0.92 <= covered / 400 <= 0.98


def test_result_is_the_same_in_every_run():
    one, other = requests(80, 1), requests(60, 2)
    first, second = separate(one, other), separate(one, other)
    assert (first.auc, first.low, first.first, first.second) == (
        second.auc,
        second.low,
        second.first,
        second.second,
    )


def test_interval_of_two_parts_of_one_source_contains_one_half():
    outside = 0
    for seed in range(20):
        texts = requests(200, seed)
        found = separate(texts[:120], texts[120:])
        outside += not found.low <= 0.5 <= found.high
    assert outside <= 3


def test_texts_that_both_samples_share_are_not_recognized():
    both = [f"order {i}" for i in range(240)]
    assert separate(both, both[::3]).low < 0.5


def test_paraphrases_of_few_training_texts_are_in_one_fold():
    """A classifier that has seen one of ten paraphrases would recognize the other nine."""
    words = [f"word{i}" for i in range(400)]
    order = random.Random(3)
    seeds = [order.sample(words, 12) for _ in range(160)]
    paraphrases = [
        " ".join([order.choice(words) if i == place else word for i, word in enumerate(seed)])
        for seed in seeds[:20]
        for place in order.sample(range(12), 6)
    ]
    found = separate(paraphrases, [" ".join(seed) for seed in seeds[40:]])
    assert found.low < 0.6


def test_words_that_give_each_sample_away_come_first():
    found = separate(requests(150, 1), requests(150, 2, things=("invoice", "refund")))
    assert found.auc > 0.99
    assert {'"invoices"', '"refunds"'} <= set(found.second[:4])
    assert {'"mugs"', '"lamps"'} <= set(found.first)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda text: text.replace(" to ", "\n\n"), "line breaks"),
        (str.upper, "capital letters"),
        (lambda text: f"{text} {text} {text}", "long inputs"),
    ],
)
def test_form_of_the_texts_gives_a_sample_away(change, name):
    found = separate(requests(150, 1), [change(text) for text in requests(150, 2)])
    assert found.low > 0.9
    assert name in found.second[:3]


def test_texts_without_words_can_be_compared():
    assert separate([" "] * 60, [" "] * 60).auc == 0.5


@pytest.mark.slow
def test_memory_for_long_texts_without_common_words_is_limited():
    order = random.Random(1)
    characters = [*string.ascii_letters, *string.digits, " "]
    texts = ["".join(order.choices(characters, k=2_000)) for _ in range(120)]
    tracemalloc.start()
    separate(texts[:60], texts[60:])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 40 * 2**20
