"""Check for training rows that contain passages of golden cases or safety cases, or whose prompts are
near-duplicates of their prompts. The check golden_prompts finds equal prompts."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction

import numpy as np

from tunegate_api.cases.expectations import (
    CallsExpectation,
    JsonExpectation,
    OverlapExpectation,
    TextExpectation,
    leaves,
)
from tunegate_api.cases.golden import GoldenCase
from tunegate_api.messages import Message
from tunegate_trainer.checks.differences import common_passage, difference
from tunegate_trainer.checks.finding import (
    SHOWN_EXAMPLES,
    CheckContext,
    Finding,
    case_name,
    listed,
)
from tunegate_trainer.checks.golden_prompts import APART_FROM_SYSTEM, CasePrompts
from tunegate_trainer.checks.rows import UsableRows
from tunegate_trainer.checks.share_finding import REPORTED, where_listed
from tunegate_trainer.data.documents import Documents
from tunegate_trainer.data.parse import has_system, prompt_text, without_system
from tunegate_trainer.data.passages import Passages, SimilarTexts
from tunegate_trainer.data.shingles import Document, Template, Words, batches, unique_pairs

NAME = "leaked_passages"
_SHOWN_TYPES = ("equals", "starts_with", "contains")
"""Types of expectations of a text that is a part of an expected output."""
_TEMPLATE_CASES = 4
"""Shingles in at least so many cases of required gates, with different prompts, belong to their template."""


@dataclass(frozen=True)
class LeakedCase:
    """A row or pair with a part of a golden case or safety case."""

    row: str
    """The line of the row or pair."""
    gate: str
    case: str
    similar: bool
    """True if the prompts are near-duplicates, False if the row contains a passage of the case."""


def run(rows: UsableRows, context: CheckContext) -> Iterator[Finding]:
    """Refuse rows that contain 13 consecutive words of the prompt or of an expected output of a golden case,
    or whose prompt is a near-duplicate of a golden prompt. Words of the rows' template are not compared. For
    required gates, they are compared unless they belong to the template of the golden cases too."""
    cases = context.gate_cases
    leaks, total, count = first_leaks(_leaks(rows, context, cases))
    if not leaks:
        return
    examples = [_example(rows, row, *cases[case], similar) for row, case, similar in leaks[:SHOWN_EXAMPLES]]
    unless = (
        f"; a required gate ignores only words of many rows and at least {_TEMPLATE_CASES} of its cases"
        if context.required_gates
        else ""
    )
    repeat = "1 row repeats" if count == 1 else f"{count} rows repeat"
    found = [
        LeakedCase(rows.documents.place(row), cases[case][0], cases[case][1].id, similar)
        for row, case, similar in leaks
    ]
    yield Finding(
        message=f"{repeat} parts of {context.kind_of_cases} cases: {listed(examples, total)}",
        count=count,
        share=Fraction(count, len(rows.documents)),
        examples=examples,
        remedy="remove these rows, because a gate cannot measure what a model learned by heart; if the "
        f"words belong to every prompt of your task, set Leakage in data.checks{unless}; "
        + where_listed(total),
        report={"leaked_passages": [asdict(one) for one in found]},
    )


def first_leaks(leaks: Iterable[tuple[int, int, bool]]) -> tuple[list[tuple[int, int, bool]], int, int]:
    """Return the first :data:`REPORTED` leaks, the number of all leaks, and the number of rows with leaks. A
    leak starts with the index of its row, and leaks are sorted by row."""
    found: list[tuple[int, int, bool]] = []
    total = rows = 0
    last = None
    for leak in leaks:
        total, rows, last = total + 1, rows + (leak[0] != last), leak[0]
        if total <= REPORTED:
            found.append(leak)
    return found, total, rows


def _leaks(
    rows: UsableRows, context: CheckContext, cases: list[tuple[str, GoldenCase]]
) -> Iterator[tuple[int, int, bool]]:
    """Yield the indices of each row and case with something in common, and whether their prompts are
    near-duplicates. Rows with a golden prompt are left out."""
    required = [i for i, (gate, _) in enumerate(cases) if gate in context.required_gates]
    others = [i for i, (gate, _) in enumerate(cases) if gate not in context.required_gates]
    template = rows.near_duplicates.template
    common = template.in_common(_template_of([cases[i][1] for i in required]))
    searches = [
        _PassageSearch.of(cases, others, template, ignore_frequent=True),
        _PassageSearch.of(cases, required, common, ignore_frequent=False),
    ]
    equal = CasePrompts.of(context)
    start = 0
    for words in batches(rows.documents):
        found = {leak: similar for one in searches if one.cases for leak, similar in one.leaks(words).items()}
        for one in searches:
            found |= dict.fromkeys(one.questions.leaks(rows.documents, start, words), True)
        for (row, case), is_similar in sorted(found.items()):
            if not equal.of_row(rows.documents.measured(start + row)):
                yield start + row, case, is_similar
        start += len(words)


@dataclass(frozen=True)
class _PassageSearch:
    cases: Sequence[int]
    passages: Passages
    prompts: SimilarTexts
    questions: "_Questions"

    @classmethod
    def of(
        cls,
        cases: Sequence[tuple[str, GoldenCase]],
        numbers: Sequence[int],
        template: Template,
        *,
        ignore_frequent: bool,
    ) -> "_PassageSearch":
        """Return the search for the cases with these indices."""
        golden = Words.of(_document(cases[i][1]) for i in numbers)
        passages = Passages(golden, template, ignore_frequent=ignore_frequent)
        questions = _Questions.of(cases, numbers, template)
        return cls(numbers, passages, SimilarTexts(golden.without_answers(), template), questions)

    def leaks(self, words: Words) -> dict[tuple[int, int], bool]:
        """Return the indices of each row and case with something in common, and whether their prompts are
        near-duplicates."""
        found = dict.fromkeys(((one.row, one.text) for one in self.passages.shared_with(words)), False)
        found |= dict.fromkeys(self.prompts.similar_to(words.without_answers()), True)
        return {(row, self.cases[number]): similar for (row, number), similar in found.items()}


@dataclass(frozen=True)
class _Questions:
    """The search for prompts that are near-duplicates apart from a system turn that only one of them has."""

    bare_cases: Sequence[int]
    """The indices of the cases without a system turn."""
    bare: SimilarTexts
    asked_cases: Sequence[int]
    """The indices of the other cases."""
    asked: SimilarTexts
    """Their prompts without the system turns."""

    @classmethod
    def of(
        cls, cases: Sequence[tuple[str, GoldenCase]], numbers: Sequence[int], template: Template
    ) -> "_Questions":
        def texts(numbers: Sequence[int]) -> SimilarTexts:
            return SimilarTexts(Words.of((_question(cases[i][1].turns), "") for i in numbers), template)

        bare = [i for i in numbers if not has_system(cases[i][1].turns)]
        asked = [i for i in numbers if has_system(cases[i][1].turns)]
        return cls(bare, texts(bare), asked, texts(asked))

    def leaks(self, documents: Documents, start: int, words: Words) -> Iterator[tuple[int, int]]:
        """Yield the index of each row in ``words``, and of each case with a similar prompt. ``start`` is the
        index of the first row in ``words``."""
        rows = [documents.measured(start + i) for i in range(len(words))]
        if self.asked_cases and not all(row.labelled.system for row in rows):
            for row, case in self.asked.similar_to(words.without_answers()):
                if not rows[row].labelled.system:
                    yield row, self.asked_cases[case]
        with_system = [i for i, row in enumerate(rows) if row.labelled.system]
        if self.bare_cases and with_system:
            questions = Words.of((_question(rows[i].labelled.row.prompt), "") for i in with_system)
            for row, case in self.bare.similar_to(questions):
                yield with_system[row], self.bare_cases[case]


def _question(prompt: list[Message]) -> str:
    return prompt_text(without_system(prompt))


def _template_of(cases: Sequence[GoldenCase]) -> Template:
    """Return the template of the cases of required gates: the shingles that at least :data:`_TEMPLATE_CASES`
    cases have, and the system turns that several cases have.

    The template of the rows is not enough, because the author of a job could repeat a case so often that its
    words belong to the template. A case that is repeated counts once.
    """
    different = {prompt_text(case.turns): case for case in cases}.values()
    shingles, _, _ = unique_pairs(*Words.of(map(_document, different)).shingles)
    known, counts = np.unique(shingles, return_counts=True)
    systems = Counter(case.turns[0].content for case in different if case.turns[0].role == "system")
    turns = Words.of((turn, "") for turn, count in systems.items() if count > 1)
    return Template(np.union1d(known[counts >= _TEMPLATE_CASES], turns.shingles[0]))


def _document(case: GoldenCase) -> Document:
    """Return the prompt and the expected outputs of a case. A safety case has none."""
    expected = []
    for expectation in leaves(case.expect, negated=False):
        if isinstance(expectation, TextExpectation):
            expected += [expectation.value] if expectation.type in _SHOWN_TYPES else []
        elif isinstance(expectation, OverlapExpectation):
            expected.append(expectation.value)
        elif isinstance(expectation, JsonExpectation):
            expected.append(json.dumps(expectation.value, ensure_ascii=False))
        elif isinstance(expectation, CallsExpectation):
            expected += [
                f"{call.name} {json.dumps(call.arguments, sort_keys=True)}" for call in expectation.value
            ]
    return prompt_text(case.turns), "\n".join(expected)


def _example(rows: UsableRows, row: int, gate: str, case: GoldenCase, similar: bool) -> str:
    of_row, of_case = rows.documents[row], _document(case)
    name = case_name(gate, case)
    if similar:
        place, measured = rows.documents.place(row), rows.documents.measured(row)
        if bool(measured.labelled.system) == has_system(case.turns):
            return f"{place} has the prompt of {name} {difference(of_row[0], of_case[0])}"
        different = difference(_question(measured.labelled.row.prompt), _question(case.turns))
        return f"{place} has the prompt of {name} {different}{APART_FROM_SYSTEM}"
    passage = common_passage("\n".join(of_row), "\n".join(of_case))
    return f"{rows.documents.place(row)} has {passage} of {name}"
