"""Check for prompts of golden sets and safety sets in the training data. On a trained prompt, a gate would
measure only memorization."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any

from tunegate_api.cases.golden import GoldenCase
from tunegate_trainer.checks.finding import (
    SHOWN_EXAMPLES,
    CheckContext,
    Finding,
    case_name,
    listed,
)
from tunegate_trainer.checks.rows import UsableRows
from tunegate_trainer.checks.share_finding import REPORTED, where_listed
from tunegate_trainer.data.held_out import answered_prompts, answered_questions
from tunegate_trainer.data.parse import has_system, prompt_key, without_system
from tunegate_trainer.data.records.record import RecordPlace
from tunegate_trainer.data.usable import UsableRow

NAME = "golden_prompts"
APART_FROM_SYSTEM = ", apart from the system turn"
"""How a message ends if only one of two prompts has a system turn."""

_OTHER_QUESTION = (
    "or if it is another question without the system turn, give the row or the case a system turn too; "
)

GateCase = tuple[str, GoldenCase]
"""The name of a gate, and one of its cases."""


@dataclass(frozen=True)
class GoldenPrompt:
    """A row or pair with the prompt of a golden case or safety case."""

    place: RecordPlace
    gate: str
    case: GoldenCase
    one_has_a_system_turn: bool = False
    """Whether the prompts are equal apart from a system turn that only one of them has."""

    @property
    def entry(self) -> dict[str, Any]:
        """This row in data/report.json."""
        return {**self.place.entry, "gate": self.gate, "case": self.case.id}


def run(rows: UsableRows, context: CheckContext) -> Iterator[Finding]:
    """Refuse rows and pairs that have the prompt of a golden case or safety case.

    Whole prompts, with all their turns, are compared after :func:`~tunegate_trainer.data.split.normalize`. If
    only the row or only the case has a system turn, the system turn is ignored. The check leaked_passages
    finds similar prompts.
    """
    cases = CasePrompts.of(context)
    found: list[GoldenPrompt] = []
    total = count = 0
    for measured in chain[UsableRow[Any]](rows.rows, rows.pairs):
        of_row = cases.of_row(measured)
        total, count = total + len(of_row), count + bool(of_row)
        found += [GoldenPrompt(measured.labelled.place, *case) for case in of_row[: REPORTED - len(found)]]
    if not found:
        return
    examples = [
        f"{one.place} is {case_name(one.gate, one.case)}"
        + (APART_FROM_SYSTEM if one.one_has_a_system_turn else "")
        for one in found[:SHOWN_EXAMPLES]
    ]
    rows_have = "1 row has" if count == 1 else f"{count} rows have"
    yield Finding(
        message=f"{rows_have} the prompt of a {context.kind_of_cases} case: {listed(examples, total)}",
        count=count,
        share=Fraction(count, max(1, len(rows.rows) + len(rows.pairs))),
        examples=examples,
        remedy="remove these rows: a golden case whose prompt is trained on measures only memorization; "
        + (_OTHER_QUESTION if any(one.one_has_a_system_turn for one in found) else "")
        + where_listed(total),
        report={"golden_prompts": [one.entry for one in found]},
    )


@dataclass(frozen=True)
class CasePrompts:
    """The golden cases and safety cases with their gates, by the :func:`prompt_key` of their prompts."""

    whole: Mapping[str, list[GateCase]]
    """All cases, by their whole prompt."""
    bare: Mapping[str, list[GateCase]]
    """The cases without a system turn."""
    questions: Mapping[str, list[GateCase]]
    """The cases with a system turn, by their prompt without it."""

    @classmethod
    def of(cls, context: CheckContext) -> "CasePrompts":
        whole: dict[str, list[GateCase]] = defaultdict(list)
        bare: dict[str, list[GateCase]] = defaultdict(list)
        questions: dict[str, list[GateCase]] = defaultdict(list)
        for gate, case in context.gate_cases:
            whole[prompt_key(case.turns)].append((gate, case))
            of_kind = questions if has_system(case.turns) else bare
            of_kind[prompt_key(without_system(case.turns))].append((gate, case))
        return cls(whole, bare, questions)

    def of_row(self, measured: UsableRow[Any]) -> list[tuple[str, GoldenCase, bool]]:
        """Return the cases whose prompts a row or pair has, each with whether only one of the two has a
        system turn."""
        prompts = answered_prompts(measured)
        found = [(*case, False) for prompt in prompts for case in self.whole.get(prompt, ())]
        if measured.labelled.system:
            others = [case for asked in answered_questions(measured) for case in self.bare.get(asked, ())]
        else:
            others = [case for prompt in prompts for case in self.questions.get(prompt, ())]
        return found + [(*case, True) for case in others]
