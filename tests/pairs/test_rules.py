"""Rankings become preference pairs by rules: majority, minimum agreement, and what is dropped."""

import random
from collections import Counter
from fractions import Fraction
from itertools import combinations

import pytest

from tunegate_api.preference import Candidates, Completion, Ranking
from tunegate_client.pairs.rules import Built, build_pairs

LETTERS = "abcde"


def candidates(texts: dict[str, str] | None = None, id: str = "p") -> Candidates:
    texts = texts or {letter: f"text {letter}" for letter in "abc"}
    completions = [Completion(id=letter, text=text) for letter, text in texts.items()]
    return Candidates.model_validate({"id": id, "prompt": "order", "completions": completions})


def ranking(orders: str, rater: str = "ana", id: str = "p") -> Ranking:
    """Read ``a=b>c !d``: a and b are equally good and better than c, and d is unusable."""
    order, _, bad = orders.partition("!")
    groups = [group.strip().split("=") for group in order.split(">")] if order.strip() else []
    return Ranking(id=id, rater=rater, ranking=groups, bad=list(bad.strip()))


def build(*orders: str, texts: dict[str, str] | None = None, **options: object) -> Built:
    rankings = [ranking(order, f"rater {n}") for n, order in enumerate(orders)]
    return build_pairs([candidates(texts)], rankings, **{"every_pair": True, **options})


def shown(built: Built) -> str:
    return " ".join(f"{pair.chosen}>{pair.rejected}" for pair in built.pairs)


@pytest.mark.parametrize(
    ("orders", "expected", "dropped"),
    [
        (["a>b>c"], "a>b a>c b>c", {}),
        (["a>b=c"], "a>b a>c", {"tie": 1}),
        (["a>b"], "a>b", {"too few raters": 2}),
        (["a>b !c"], "a>b", {"unusable": 2}),
        (["a>b>c", "c>b>a"], "", {"contradiction": 3}),
        (["a>b>c", "a>b>c", "c>b>a"], "a>b a>c b>c", {}),
        (["a>b>c", "a=b>c"], "a>c b>c", {"tie": 1}),
        (["a>b>c", "a=b=c", "b>a>c"], "a>c b>c", {"contradiction": 1}),
        (["a>b>c", "b>c>a", "c>a>b"], "", {"contradiction": 3}),  # the majorities form a cycle
        (["a>b !c", "a>b !c", "c>a>b"], "a>b", {"unusable": 2}),
        (["a>b !c", "a>b>c", "a>b>c"], "a>b a>c b>c", {}),
    ],
)
def test_majority_of_raters_decides_each_pair(orders, expected, dropped):
    built = build(*orders)
    assert (shown(built), +built.dropped) == (expected, Counter(dropped))


@pytest.mark.parametrize(
    ("first", "second", "rule"),
    [
        ("It  ships\nMonday", " It ships Monday ", "identical"),
        ("It ships monday!", "It ships Monday.", "near-equal"),
        ('"yes"', "Yes", "near-equal"),
        ('{"a": 1, "b": 2}', '{"b":2,"a":1}', "near-equal"),
        ('{"a": 1}', '{"a": 2}', ""),
        ("It costs 5", "It costs .5", ""),
        ("It costs 5", "It costs -5", ""),
        ("?", "!", ""),
    ],
)
def test_texts_that_express_no_preference_are_dropped(first, second, rule):
    built = build("a>b", texts={"a": first, "b": second})
    assert +built.dropped == (Counter({rule: 1}) if rule else Counter())
    assert len(built.pairs) == (0 if rule else 1)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "a>b a>c b>c"),
        ({"min_agreement": Fraction(2, 3)}, "a>b a>c b>c"),
        ({"min_agreement": Fraction(3, 4)}, "a>c"),
        ({"min_raters": 3}, "a>b a>c b>c"),
        ({"min_raters": 4}, ""),
        ({"every_pair": False}, "a>c"),
    ],
)
def test_options_set_what_a_pair_needs(options, expected):
    assert shown(build("a>b>c", "b>a>c", "a>c>b", **options)) == expected


def test_best_and_worst_pair_of_each_ranked_prompt_is_built():
    prompts = [candidates(id=id) for id in ("p1", "p2", "p3")]
    rankings = [ranking("c>a>b", id="p3"), ranking("b>a=c", id="p1")]
    built = build_pairs(prompts, rankings)
    assert [pair.line()["id"] for pair in built.pairs] == ["p1:b>a", "p3:c>b"]
    assert built.dropped["not best and worst"] == 1 + 2
    assert built.dropped["tie"] == 1


def test_line_of_a_pair_keeps_the_turns_of_a_chat():
    turns = [{"role": "system", "content": "short"}, {"role": "user", "content": "order"}]
    fields = candidates().model_dump() | {"prompt": turns}
    (pair,) = build_pairs([Candidates.model_validate(fields)], [ranking("b>a")]).pairs
    assert pair.line() == {"id": "p:b>a", "prompt": turns, "chosen": "text b", "rejected": "text a"}


def random_rankings(draw: random.Random) -> list[Ranking]:
    def order() -> str:
        letters = draw.sample(LETTERS, draw.randint(2, len(LETTERS)))
        return "".join(f"{letter}{draw.choice('=>>')}" for letter in letters)[:-1]

    return [ranking(order(), f"rater {n}") for n in range(draw.randint(1, 5))]


@pytest.mark.parametrize("seed", range(100))
def test_every_pair_agrees_with_majority_in_any_rater_order(seed):
    draw = random.Random(seed)
    prompt = candidates({letter: f"text {letter}" for letter in LETTERS})
    rankings = random_rankings(draw)
    built = build_pairs([prompt], rankings, every_pair=True)
    for pair in built.pairs:
        places = [r.places for r in rankings if {pair.chosen, pair.rejected} <= r.places.keys()]
        better = sum(place[pair.chosen] < place[pair.rejected] for place in places)
        assert better > len(places) - better
        assert pair.agreement == Fraction(better, len(places))
    assert len(built.pairs) + built.dropped.total() == len(list(combinations(LETTERS, 2)))

    best = build_pairs([prompt], rankings).pairs
    assert len(best) == min(1, len(built.pairs))
    assert all(pair in built.pairs for pair in best)
    draw.shuffle(rankings)
    assert build_pairs([prompt], rankings, every_pair=True) == built
    assert build_pairs([prompt], rankings).pairs == best
