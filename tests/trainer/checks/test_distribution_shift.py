"""Training inputs are compared with production inputs: words, lengths, vocabulary, and what is reported."""

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import pytest

from tunegate_api.messages import Message
from tunegate_api.v1alpha2.data_checks import CheckSetting
from tunegate_trainer.checks import distribution_shift
from tunegate_trainer.checks.finding import Finding, Severity
from tunegate_trainer.data.production import Input, prompt_length
from tunegate_trainer.data.records.record import RecordPlace

PLACES = ("Oslo", "Berlin", "Paris", "Rome", "Bern")
THINGS = ("mug", "lamp", "chair", "desk", "pen", "cup", "rug")
LIMIT = Fraction(3, 4)


def orders(seed: int, count: int = 120, *, things: Sequence[str] = THINGS) -> list[str]:
    order = random.Random(seed)
    return [
        f"please send {order.randint(1, 999)} {order.choice(things)}s to {order.choice(PLACES)}"
        for _ in range(count)
    ]


Compare = Callable[..., Finding]


@pytest.fixture
def compare(sound) -> Compare:
    """Return a function that runs the check on training and production inputs: prompts, or chats."""

    def run(training, production, limit: Fraction = LIMIT, *, longest: int = 8000) -> Finding:
        chats = [one if isinstance(one, list) else [("user", one)] for one in (*training, *production)]
        turns = [[{"role": role, "content": content} for role, content in chat] for chat in chats]
        rows = sound.rows_of(
            *({"messages": [*t, {"role": "assistant", "content": "yes"}]} for t in turns[: len(training)])
        )
        prompts = [[Message(**turn) for turn in t] for t in turns[len(training) :]]
        inputs = [
            Input(RecordPlace(i), prompt, prompt_length(sound.context.tokenizer, prompt))
            for i, prompt in enumerate(prompts)
        ]
        of_production = replace(
            sound.production, inputs=inputs, longest=replace(sound.production.longest, tokens=longest)
        )
        context = replace(sound.context, settings={distribution_shift.NAME: CheckSetting(limit=limit)})
        (found,) = distribution_shift.run(
            replace(sound.usable, rows=rows, pairs=[], production=of_production), context
        )
        return found

    return run


def outcome(found: Finding, limit: Fraction = LIMIT) -> str:
    if found.severity is Severity.WARNING:
        return "Warned"
    return "Refused" if found.share is not None and found.share > limit else "Passed"


@pytest.mark.slow
def test_two_parts_of_one_source_pass_nearly_always(compare):
    results = [outcome(compare(orders(seed), orders(100 + seed, 80))) for seed in range(20)]
    assert results.count("Passed") >= 19


@pytest.mark.parametrize(
    "production",
    [
        orders(2, things=("invoice", "refund")),
        [f"### Instruction:\n{text}\n### Response:" for text in orders(2)],
        [f"bitte schicken Sie {i} Tassen nach Berlin, danke" for i in range(100)],
        [" and ".join(orders(i, 6)) for i in range(100)],
        [[("system", "be brief"), ("user", text)] for text in orders(2)],
    ],
    ids=["topic", "template", "language", "length", "system prompt"],
)
def test_production_that_differs_from_training_is_refused(compare, production):
    found = compare(orders(1), production)
    assert outcome(found) == "Refused"
    assert found.share is not None
    assert float(found.share) <= found.measured == pytest.approx(1, abs=0.05)


def test_refusal_names_words_and_inputs_to_collect_more_of(compare):
    found = compare(orders(1), orders(2, things=("invoice", "refund")))
    more = found.message.partition("production has more ")[2].partition("; training has more ")
    assert '"refunds"' in more[0]
    assert '"invoices"' in more[0]
    assert '"lamps"' in more[2]
    assert re.search(
        r"collect more rows like line \d+, line \d+, line \d+ of data\.sources\[production\]$", found.message
    )
    assert len(found.examples) == 3
    assert all("invoices" in example or "refunds" in example for example in found.examples)
    assert found.count > 100
    assert "max of Distribution in data.checks" in found.remedy


def test_message_quotes_no_production_input_and_examples_are_masked(compare):
    token = "ghp_" + "q7Rk2Z" * 6
    production = [f"Anna{i}xyz asks for refund {token} to anna{i}@example.com" for i in range(60)]
    found = compare(orders(1), production)
    assert outcome(found) == "Refused"
    assert "to anna" not in found.message
    assert not re.search(r"\d+xyz|@example|anna\d", found.message)
    assert found.examples[0].endswith('asks for refund ghp_… to anna…"')
    assert token not in json.dumps(found.report).replace("ghp_…", "")
    assert not re.search(r"anna\d", json.dumps(found.report))


def test_words_of_a_single_production_input_are_not_shown(compare):
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = [f"{text} {letters[i // 26]}{letters[i % 26]}ova" for i, text in enumerate(orders(2))]
    found = compare(orders(1), names, Fraction(1))
    assert "of the words of production inputs do not occur in training inputs (0% between" in found.message
    assert not re.search(r"[a-z]{2}ova", found.message)


def test_long_production_inputs_are_shortened_in_examples(compare):
    found = compare(orders(1), [" and ".join(orders(i, 20)) for i in range(60)])
    assert all(len(example) < 140 for example in found.examples)


def test_remedy_says_that_only_one_side_has_system_prompts(compare):
    found = compare([[("system", "be brief"), ("user", text)] for text in orders(1)], orders(2))
    assert found.remedy.startswith("100% of training inputs and 0% of production inputs have a system prompt")
    assert "system prompt" not in compare(orders(1), orders(2)).remedy


def test_only_the_last_user_turn_of_a_chat_is_compared(compare):
    chats = [
        [("user", "something else entirely"), ("assistant", "fine"), ("user", text)] for text in orders(1)
    ]
    found = compare(chats, orders(2))
    assert found.measured < 0.7


def test_noticeable_difference_below_the_limit_is_a_warning(compare):
    mixed = [*orders(2, 60), *orders(3, 60, things=("refund",))]
    found = compare(orders(1), mixed)
    assert LIMIT > found.share > Fraction(3, 5)
    assert outcome(found) == "Warned"
    assert '"refunds"' in found.message
    assert outcome(compare(orders(1), mixed, Fraction(3, 5)), Fraction(3, 5)) == "Refused"


def test_very_long_input_does_not_hide_the_other_lengths(compare):
    found = compare(orders(1), [*orders(2), " ".join(orders(3, 200))])
    lengths = found.report["distribution"]["lengths"]
    assert lengths["bin_edges"][-1] < 100
    assert (sum(lengths["training"]), sum(lengths["production"])) == (120, 121)
    assert lengths["production"][-1] >= 1


def test_different_lengths_give_the_percentiles_of_both_sides(compare):
    found = compare(orders(1), [f"{text}, {text}" for text in orders(2)], Fraction(1))
    assert outcome(found) == "Warned"
    assert "(5th, 50th and 95th percentile; Kolmogorov-Smirnov distance 1.00)" in found.message
    assert "100% of production inputs are longer than every training input" in found.message


def test_regular_lengths_that_differ_by_one_token_are_no_warning(compare):
    found = compare(["send a mug"] * 3 + orders(1), orders(2))
    assert "percentile" not in found.message
    lengths = found.report["distribution"]["lengths"]
    assert lengths["ks_distance"] < 0.2


def test_inputs_longer_than_training_examples_are_counted(compare):
    found = compare(orders(1), orders(2), longest=20)
    assert "120 production inputs have more than 20 tokens, the limit of training examples" in found.message
    assert outcome(found) == "Warned"


def test_unknown_words_are_compared_with_those_between_halves(compare):
    found = compare(
        orders(1), [f"{text} asap" if i % 2 else text for i, text in enumerate(orders(2))], Fraction(1)
    )
    assert 'do not occur in training inputs, such as "asap" (0% between two halves' in found.message
    names = [f"{text} {'abcdefghij'[i % 10]}{i}x" for i, text in enumerate(orders(1))]
    others = [f"{text} {'klmnopqrst'[i % 10]}{i}x" for i, text in enumerate(orders(2))]
    assert "do not occur" not in compare(names, others, Fraction(1)).message, "every input has a new word"


def test_report_has_what_pictures_need(compare):
    found = compare(orders(1), orders(2))
    report = json.loads(json.dumps(found.report))["distribution"]
    lengths = report["lengths"]
    assert len(lengths["bin_edges"]) == 21
    assert (sum(lengths["training"]), sum(lengths["production"])) == (120, 120)
    assert lengths["percentiles"]["training"].keys() == {"5", "50", "95"}
    assert report["interval"][0] <= report["auc"] <= report["interval"][1]
    assert len(report["training_has_more"]) <= 10
    assert (report["training_inputs"], report["production_inputs"]) == (120, 120)


@pytest.mark.parametrize(
    ("training", "production", "which"),
    [(120, 49, "49 distinct production"), (30, 60, "30 distinct training")],
)
def test_too_few_inputs_are_a_warning_and_never_refused(compare, training, production, which):
    found = compare(orders(1, training), [f"refund {i}" for i in range(production)])
    assert found.severity is Severity.WARNING
    assert found.message.startswith(f"there are only {which} inputs that can be used")


def test_missing_production_sample_is_a_warning(sound):
    (found,) = distribution_shift.run(replace(sound.usable, production=None), sound.context)
    assert found.severity is Severity.WARNING
    assert found.message.startswith("no source has use: Production, so it is unknown whether")


def test_pairs_are_compared_if_no_stage_trains_on_rows(sound):
    stage = sound.context.request.spec.stages[0].model_copy(update={"method": "DPO"})
    spec = sound.context.request.spec.model_copy(update={"stages": [stage]})
    context = replace(sound.context, request=sound.context.request.model_copy(update={"spec": spec}))
    (found,) = distribution_shift.run(sound.usable, context)
    assert "there are only 3 distinct training inputs" in found.message


def test_sample_of_training_inputs_reads_few_rows(sound):
    """A million rows are compared by a sample."""
    rows = sound.usable.rows

    class Counted(Sequence):
        read = 0

        def __len__(self) -> int:
            return 1_000_000

        def __getitem__(self, i):
            Counted.read += 1
            return replace(
                rows[i % len(rows)], labelled=with_prompt(rows[i % len(rows)].labelled, f"order {i}")
            )

    (found,) = distribution_shift.run(replace(sound.usable, rows=Counted()), sound.context)
    assert found.report["distribution"]["training_inputs"] == 2000
    assert Counted.read < 5_000


def with_prompt(labelled, text: str):
    prompt = [Message(role="user", content=text)]
    row = labelled.row.model_copy(update={"prompt": prompt})
    return replace(labelled, prompt=text, number=labelled.rows.add(row))
