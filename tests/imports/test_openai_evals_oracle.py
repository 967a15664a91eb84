"""Imported samples pass the same outputs as the evals of openai/evals themselves."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from support.golden_outcomes import outcome
from support.openai_evals import eval_outcomes
from tunegate_client.imports.openai_evals import EVALS, import_evals

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(1200)]

TEXTS = [
    "Paris",
    "paris",
    " Paris",
    "Par",
    "straße",
    "STRASSE",
    "a",
    "A.",
    "\n",
    " ",
    "\u00a0",
    "4",
    "[4]",
    "{}",
    "[]",
]
LEAVES = [0, 1, True, False, 2, -1, 1.5, 0.0, "", "a", "A", "1", None, 2**60, 1e20]
TOKENS = [
    "NaN",
    "Infinity",
    "1e400",
    "{",
    '{"a": 1, "a": 2}',
    "```json\n1\n```",
    "\ufeff1",
    " 1 ",
    "01",
    "-0.0",
    "1E0",
]


def random_value(generator: random.Random, depth: int = 0) -> Any:
    kind = generator.random()
    if depth < 2 and kind < 0.3:
        return [random_value(generator, depth + 1) for _ in range(generator.randint(0, 2))]
    if depth < 2 and kind < 0.6:
        return {name: random_value(generator, depth + 1) for name in generator.sample("abc", 2)}
    return generator.choice(LEAVES)


def similar(generator: random.Random, value: Any) -> Any:
    """Return a value that a comparison may take for the same."""
    if isinstance(value, list):
        return [similar(generator, each) for each in value]
    if isinstance(value, dict):
        return {name: similar(generator, each) for name, each in reversed(value.items())}
    same = [each for each in LEAVES if each == value]
    return generator.choice(same) if same and generator.random() < 0.9 else generator.choice(LEAVES)


def random_sample(generator: random.Random, name: str) -> tuple[list[str], list[str]]:
    """Return ideal answers and outputs."""
    if name == "JsonMatch":
        values = [random_value(generator) for _ in range(generator.choice([1, 1, 2]))]
        outputs = [json.dumps(similar(generator, generator.choice(values))) for _ in range(15)]
        return [json.dumps(value) for value in values], [*outputs, *generator.sample(TOKENS, 4)]
    ideals = [
        "".join(generator.choices(TEXTS, k=generator.choice([1, 1, 2])))
        for _ in range(generator.choice([1, 2]))
    ]
    outputs = ["".join(generator.choices([*TEXTS, *ideals], k=3)) for _ in range(12)]
    return ideals, ["", *outputs, *(f"{ideal}x" for ideal in ideals)]


def test_each_eval_passes_the_same_outputs_as_openai_evals(tmp_path: Path) -> None:
    generator = random.Random(3)
    asked, cases = [], []
    for _ in range(900):
        name = generator.choice(EVALS)
        ideals, outputs = random_sample(generator, name)
        (tmp_path / "samples.jsonl").write_text(json.dumps({"input": "?", "ideal": ideals}))
        found = import_evals(tmp_path / "samples.jsonl", name)
        if found.cases:
            asked.append((name, ideals, outputs))
            cases.append(found.cases[0])
    ours = [
        [outcome(case, each) for each in outputs] for case, (_, _, outputs) in zip(cases, asked, strict=True)
    ]
    wrong = [
        f"{name} {ideals}: {output!r} here {here}, there {there}"
        for (name, ideals, outputs), our, their in zip(asked, ours, eval_outcomes(asked), strict=True)
        for output, here, there in zip(outputs, our, their, strict=True)
        if here != there
    ]
    assert not wrong, "\n".join(wrong)
    assert len(cases) > 500
    assert sum(each.count("p") for each in ours) > 2000
