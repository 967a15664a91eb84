"""Imported samples pass the same outputs as the scorers of inspect_ai itself."""

import json
import random
from pathlib import Path

import pytest

from support.golden_outcomes import outcome
from support.inspect_ai import inspect_outcomes
from tunegate_client.imports.inspect_ai import SCORERS, import_inspect

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(1200)]

WORDS = [
    *("Paris", "the", "The", "a", "an", "A", "yes", "New", "York", "x", "fin", "k"),
    *("straße", "STRASSE", "ß", "İ", "ﬁn", "K", "é", "naïve", "5", "4.2"),
]
BETWEEN = [" ", " ", " ", "-", "\n", "\t", "  ", ", ", ". ", "_", "", "'", "\u00a0", "—", "/"]
AT_ENDS = ["", "", ".", "!", " ", "\n", "\u00a0", "**", '"', "(", ")", "\x1c", "-", "…"]


def random_text(generator: random.Random, words: int) -> str:
    parts = [generator.choice(WORDS) + generator.choice(BETWEEN) for _ in range(words)]
    return "".join([generator.choice(AT_ENDS), *parts, generator.choice(AT_ENDS)])


def variant(generator: random.Random, text: str) -> str:
    """Return a text that a scorer may take for the same."""
    spread = "".join(each + generator.choice(["", "", " ", ".", "'"]) for each in text)
    return generator.choice(
        [
            text,
            text.upper(),
            text.casefold(),
            spread,
            f"the {text} a",
            f"The answer is {text}.",
            text.replace(" ", "-"),
            f"{generator.choice(AT_ENDS)}{text}{generator.choice(AT_ENDS)}",
        ]
    )


def test_each_scorer_passes_the_same_outputs_as_inspect_ai(tmp_path: Path) -> None:
    generator = random.Random(11)
    asked, cases = [], []
    for _ in range(900):
        scorer = generator.choice(SCORERS)
        targets = [
            random_text(generator, generator.randint(0, 3)) for _ in range(generator.choice([1, 1, 2]))
        ]
        outputs = ["", "a", ".", *(random_text(generator, generator.randint(0, 4)) for _ in range(5))]
        outputs += [variant(generator, generator.choice(targets)) for _ in range(12)]
        (tmp_path / "samples.json").write_text(json.dumps({"input": "?", "target": targets}))
        found = import_inspect(tmp_path / "samples.json", scorer)
        if found.cases:
            asked.append((scorer, targets, outputs))
            cases.append(found.cases[0])
    ours = [
        [outcome(case, each) for each in outputs] for case, (_, _, outputs) in zip(cases, asked, strict=True)
    ]
    wrong = [
        f"{scorer} {targets}: {output!r} here {here}, there {there}"
        for (scorer, targets, outputs), our, their in zip(asked, ours, inspect_outcomes(asked), strict=True)
        for output, here, there in zip(outputs, our, their, strict=True)
        if here != there
    ]
    assert not wrong, "\n".join(wrong)
    assert len(cases) > 400
