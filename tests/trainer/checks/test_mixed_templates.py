"""The check mixed_templates finds prompts in a second template, and accepts variable and free prompts."""

import csv
import io
import json
import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import pytest
import yaml

from support.usable_rows import NO_CONTEXT, usable_rows
from tunegate_trainer.checks import mixed_templates

SIZE = 100
SAFETY = Path(__file__).parents[3] / "examples" / "safety" / "data.yaml"
EXAMPLES = sorted({*SAFETY.parents[1].glob("*/data.yaml")} - {SAFETY})
WORDS = (
    *("lamp", "mug", "desk", "order", "river", "cloud", "stone", "paper", "green", "quick", "small", "never"),
    *("often", "under", "above", "market", "doctor", "garden", "winter", "ladder", "bottle", "window"),
)
Text = Callable[[random.Random], str]


def sentence(order: random.Random, least: int = 5) -> str:
    """Return a sentence of random words."""
    words = [order.choice(WORDS) for _ in range(order.randint(least, least + 9))]
    return " ".join(words).capitalize() + order.choice(".?!")


def in_template(template: str) -> Text:
    """Return a function that writes a random sentence into a template."""
    return lambda order: template.replace("{}", sentence(order))


def one_of(*texts: Text) -> Text:
    """Return a function that writes one of these texts at random."""
    return lambda order: order.choice(texts)(order)


def row(text: str, system: str | None = None) -> dict[str, object]:
    turns = [("system", system), ("user", text), ("assistant", "yes")]
    return {"messages": [{"role": role, "content": text} for role, text in turns if text is not None]}


def rows_of(text: Text, count: int = SIZE) -> Iterator[dict[str, object]]:
    order = random.Random(7)
    return (row(text(order)) for _ in range(count))


def with_systems(*systems: Text) -> Iterator[dict[str, object]]:
    """Return rows of which an equal share has each of the system turns."""
    order = random.Random(7)
    return (row(sentence(order), systems[i % len(systems)](order) or None) for i in range(SIZE))


def shares(rows) -> list[float]:
    """Return the shares of all templates that the check finds, or an empty list if it finds no fault."""
    found = list(mixed_templates.run(usable_rows(list(rows)), NO_CONTEXT))
    return [template["share"] for finding in found for template in finding.report["templates"]]


FREE = in_template("{}")
ALPACA = "Below is an instruction. Write a response.\n\n### Instruction:\n{}\n\n### Response:"
SECOND = {
    "headings": (FREE, in_template(ALPACA)),
    "chat tokens": (FREE, in_template("<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n")),
    "brackets": (in_template("Name the city. {}"), in_template("<s>[INST] {} [/INST]")),
    "token inside": (FREE, in_template("{} <|im_end|> yes")),
    "names of roles": (FREE, in_template("Human: {}\n\nAssistant:")),
    "label in another language": (FREE, in_template("{}\nAntwort:")),
    "another name of a field": (in_template("Q: {}\nA:"), in_template("Question: {}\nA:")),
    "fields in another order": (in_template("Item: {}\nCity: Oslo"), in_template("City: Oslo\nItem: {}")),
    "fields": (FREE, in_template("Item: mug City: {}")),
    "markup": (FREE, in_template("<question>{}</question>")),
    "polite frame": (
        FREE,
        in_template("Hello! Could you please help me with the following?\n\n{}\n\nThanks."),
    ),
    "long last line": (FREE, in_template("{}\nAnswer in one word and give no reasons at all.")),
    "no instruction": (in_template("Continue this text.\n\n{}"), FREE),
    "no instruction in the line": (in_template("Which city does the writer of this text live in? {}"), FREE),
    "no closing instruction": (in_template("{} Answer with yes or no."), FREE),
    "Chinese instruction missing": (in_template("请用一句话总结下面的文章\n{}"), FREE),
}
"""The texts of prompts of which most have the first template, and the others the second."""


@pytest.mark.parametrize("name", SECOND)
def test_prompts_in_a_second_template_are_counted(name):
    main, second = SECOND[name]
    for count in (6, 40):
        rows = chain(rows_of(second, count), rows_of(main, SIZE - count))
        (finding,) = mixed_templates.run(usable_rows(list(rows)), NO_CONTEXT)
        assert (finding.count, finding.share) == (count, Fraction(count, SIZE))
        assert [template["count"] for template in finding.report["templates"]] == [SIZE - count, count]
        assert finding.examples[-1].startswith(f"line {min(count, 10)}: ")


def letter(order: random.Random) -> str:
    hello = order.choice(["Hi,", "Hello,", "Dear team,", "Good morning,"])
    thanks = order.choice(["Thanks", "Best regards,\nAnna", "Thank you in advance for your help."])
    return f"{hello}\n\n{sentence(order)}\n\n{thanks}"


DOCUMENTS = [sentence(random.Random(i), 30) for i in range(25)]
ONE = {
    "free prompts": FREE,
    "letters": letter,
    "letters after an instruction": lambda order: f"Classify this letter.\n\n{letter(order)}",
    "wordings of one request": one_of(
        *map(
            in_template,
            (
                "Summarize the text below in a short sentence.\n\n{}",
                "What is the main point of this text, in your words?\n\n{}",
                "{}\n\nWrite one sentence that says what this passage is about.",
                "Please read this and give me a short summary of it:\n\n{}",
            ),
        )
    ),
    "questions about documents": lambda order: f"{order.choice(DOCUMENTS)}\n\n{sentence(order)}",
    "all rows in a marked template": in_template(ALPACA),
    "variable words in the instruction": lambda order: (
        f"Translate from {order.choice(['German', 'German', 'Polish'])} to plain English: {sentence(order)}"
    ),
    "numbers in the instruction": lambda order: f"Answer question {order.randint(1, 99)}.\n{sentence(order)}",
    "optional field": one_of(
        in_template("Item: {}\nColour: red\nCity: Oslo"), in_template("Item: {}\nCity: Oslo")
    ),
    "dialogues": one_of(
        *(
            in_template(f"{one}: {{}}\n{other}: yes\n{one}: {{}}")
            for one, other in (("Customer", "Agent"), ("Agent", "Customer"))
        )
    ),
    "packages before headings": lambda order: f"{order.choice(['numpy', 'torch'])}: {sentence(order)}",
    "names with a colon": one_of(FREE, in_template("A :func:`find` that {}")),
    "upper case": one_of(in_template("NAME THE CITY. {}"), in_template("Name  the city. {}")),
}


@pytest.mark.parametrize("name", ONE)
def test_prompts_in_one_template_have_no_finding(name):
    assert shares(rows_of(ONE[name])) == []


def test_prompts_that_are_repeated_are_content_and_no_template():
    order = random.Random(1)
    repeated = f"{sentence(order, 10)}\n{sentence(order)}"
    rows = [{"prompt": repeated, "completion": f"answer {i}"} for i in range(30)]
    rows += [{"prompt": sentence(order), "completion": "yes"} for _ in range(70)]
    assert shares(rows) == []


def constant(text: str) -> Text:
    return lambda _: text


@pytest.mark.parametrize(
    ("systems", "expected"),
    [
        (["You are a poet.", "You are a poet.", "Reply in JSON only."], [0.67, 0.33]),
        (["You are a poet.", "You are a poet.", ""], [0.67, 0.33]),
        (["You are a poet.", "You are a POET!", "you are a poet."], []),
        ([f"Answer briefly for the shop {shop} and be polite." for shop in ("A", "B", "C")], []),
    ],
    ids=["two", "missing", "variants", "variable name"],
)
def test_system_turns_are_compared_except_for_small_variations(systems, expected):
    assert shares(with_systems(*map(constant, systems))) == expected


@pytest.mark.parametrize(
    "system",
    [
        lambda order: sentence(order, 20),
        lambda order: f"You are a helpful assistant. Use this text: {sentence(order, 20)}",
        lambda order: f"You are a helpful assistant. Today is 2026-01-{order.randint(1, 28)}.",
        lambda order: order.choice(DOCUMENTS),
    ],
    ids=["all different", "same first words", "dates", "documents"],
)
def test_system_turns_that_differ_in_every_row_are_one_template(system):
    assert shares(with_systems(system)) == []


def test_rare_variants_of_the_system_turn_are_no_template():
    main = "You answer questions about the city of Oslo in one word."
    typed = [main.replace(word, f"{word}x") for word in main.split()]
    systems = [constant(main)] * 9 + [lambda order: order.choice(typed)]
    assert shares(with_systems(*systems)) == []


def test_message_and_report_show_each_template_with_share_and_line():
    rows = [row("Name the city.", "Be brief."), *(row(f"Name city {i}.") for i in range(9))]
    pairs = [{"prompt": f"[INST] Name {i} [/INST]", "chosen": "yes", "rejected": "no"} for i in range(2)]
    (finding,) = mixed_templates.run(usable_rows(rows, pairs), NO_CONTEXT)
    assert finding.message == (
        "3 of 12 prompts (25.0%) do not follow the template of the others: "
        "75.0% like line 2, without system turn: 'Name city 0.'; "
        "16.7% like line 1 of preference, without system turn: '[INST] Name 0 [/INST]'; "
        "8.3% like line 1, with system turn 'Be brief.': 'Name the city.'"
    )
    assert finding.report["templates"][1] == {
        "count": 2,
        "share": 0.1667,
        "example": "line 1 of preference",
        "system": None,
        "prompt": "[INST] Name 0 [/INST]",
    }
    assert list(finding.examples) == [
        "line 1: 'Name the city.'",
        "line 1 of preference: '[INST] Name 0 [/INST]'",
        "line 2 of preference: '[INST] Name 1 [/INST]'",
    ]


def test_report_of_many_templates_is_bounded():
    rows = rows_of(lambda order: f"<|tag_{order.randint(0, 10**6)}|> {sentence(order)}")
    (finding,) = mixed_templates.run(usable_rows(list(rows)), NO_CONTEXT)
    assert len(finding.report["templates"]) == mixed_templates.REPORTED_TEMPLATES
    assert finding.message.endswith("; and 95 more")


@pytest.mark.parametrize(
    ("manifest", "name"),
    [("data", "refusing.jsonl"), ("later-data", "steps.jsonl"), ("later-data", "careful.jsonl")],
)
def test_data_of_the_safety_example_has_one_template(manifest, name):
    path = SAFETY.with_stem(manifest)
    text = yaml.safe_load(path.read_text(encoding="utf-8"))["data"][name]
    rows = [json.loads(line) for line in text.splitlines()]
    assert len(rows) > 200
    assert list(mixed_templates.run(usable_rows(rows), NO_CONTEXT)) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.parent.name for path in EXAMPLES])
@pytest.mark.parametrize("instruction", [True, False], ids=["whole", "without the common instruction"])
def test_data_of_the_examples_has_one_template(path, instruction):
    files = yaml.safe_load(path.read_text(encoding="utf-8"))["data"]
    rows, pairs = (
        [json.loads(line) for line in files.get(name, "").splitlines()]
        for name in ("train.jsonl", "preference.jsonl")
    )
    table = csv.DictReader(io.StringIO(files.get("errors.csv", "")))
    rows += [{"prompt": row["text"], "completion": row["kind"]} for row in table]
    assert len(rows) > 200
    for each in [] if instruction else [*rows, *pairs]:
        if "prompt" in each:
            each["prompt"] = each["prompt"].split("\n\n")[0]
    assert list(mixed_templates.run(usable_rows(rows, pairs), NO_CONTEXT)) == []
