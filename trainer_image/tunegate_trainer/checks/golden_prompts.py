"""Check for prompts of golden sets and safety sets in the training data. On a trained prompt, a gate would
measure only memorization."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from tunegate_api.judging.golden import GoldenCase
from tunegate_api.judging.safety_cases import SafetyCase
from tunegate_trainer.checks.finding import (
    SHOWN_EXAMPLES,
    CheckContext,
    Finding,
    Severity,
    case_name,
    listed,
)
from tunegate_trainer.checks.rows import UsableRows
from tunegate_trainer.checks.share_finding import REPORTED, where_listed
from tunegate_trainer.data.held_out import answered_prompts
from tunegate_trainer.data.parse import prompt_text
from tunegate_trainer.data.records.record import Place
from tunegate_trainer.data.split import normalize, text_key
from tunegate_trainer.data.usable import Measured

NAME = "golden_prompts"


@dataclass(frozen=True)
class GoldenPrompt:
    """A row or pair with the prompt of a golden case or safety case."""

    source: str
    """``data.train`` or ``data.preference``."""
    place: Place
    gate: str
    case: GoldenCase | SafetyCase

    @property
    def shown_place(self) -> str:
        """The source and the place in it."""
        return str(self.place) if self.place.source else f"{self.source} {self.place}"

    @property
    def entry(self) -> dict[str, Any]:
        """This row in data/report.json."""
        return {"source": self.source, **self.place.entry, "gate": self.gate, "case": self.case.id}


def run(rows: UsableRows, context: CheckContext) -> list[Finding]:
    """Refuse rows and pairs that have the prompt of a golden case or safety case.

    Whole prompts, with all their turns, are compared after :func:`normalize`. The check leaked_passages finds
    similar prompts.
    """
    cases = golden_prompts(context)
    sources: Mapping[str, Sequence[Measured[Any]]] = {
        "data.train": rows.rows,
        "data.preference": rows.pairs,
    }
    found: list[GoldenPrompt] = []
    total = count = 0
    for source, measured_rows in sources.items():
        for measured in measured_rows:
            of_row = [case for prompt in answered_prompts(measured) for case in cases.get(prompt, ())]
            total, count = total + len(of_row), count + bool(of_row)
            found += [
                GoldenPrompt(source, measured.labelled.place, *case)
                for case in of_row[: REPORTED - len(found)]
            ]
    if not found:
        return []
    examples = [f"{one.shown_place} is {case_name(one.gate, one.case)}" for one in found[:SHOWN_EXAMPLES]]
    rows_have = "1 row has" if count == 1 else f"{count} rows have"
    return [
        Finding(
            check=NAME,
            severity=Severity.ERROR,
            message=f"{rows_have} the prompt of a {context.kind_of_cases} case: {listed(examples, total)}",
            count=count,
            share=Fraction(count, max(1, len(rows.rows) + len(rows.pairs))),
            examples=examples,
            remedy="remove these rows: a golden case whose prompt is trained on measures only memorization; "
            + where_listed(total),
            report={"golden_prompts": [one.entry for one in found]},
        )
    ]


def golden_prompts(context: CheckContext) -> dict[str, list[tuple[str, GoldenCase | SafetyCase]]]:
    """Return each golden case and safety case with its gate, by the key of the case's
    prompt, see :func:`~tunegate_trainer.data.split.text_key`."""
    cases: dict[str, list[tuple[str, GoldenCase | SafetyCase]]] = defaultdict(list)
    for gate, case in context.gate_cases:
        cases[text_key(normalize(prompt_text(case.turns)))].append((gate, case))
    return cases
