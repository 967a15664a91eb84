"""Compare two models case by case: regressed, still failing, fixed, still passing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunegate_api.contract import Subject
from tunegate_api.judging.verdict import ERROR, FAIL, PASS, TRUNCATED
from tunegate_trainer.artifacts.evaluation_files import base_file, golden_file, pairs_file, rows_file
from tunegate_trainer.report.collect import Collected, read_lines
from tunegate_trainer.report.stages import StageHistory

SHOWN_CASES = 100
"""The maximum number of cases per group that are shown with their outputs. For further cases, only the ids
are shown."""
SHOWN_CHARACTERS = 6000
"""The maximum number of characters of a text that are shown."""
OUTCOME_WORDS = {PASS: "passed", FAIL: "failed", TRUNCATED: "cut off", ERROR: "not measured"}


@dataclass(frozen=True)
class CaseAnswer:
    """One model's output for a case, and how it was judged."""

    text: str
    outcome: str
    """The worst outcome over all measures, as one letter."""
    explanation: str
    measures: Mapping[str, str]
    """The outcome of each measure in words. Empty if there is only one measure."""

    @property
    def passed(self) -> bool:
        return self.outcome == PASS

    @property
    def word(self) -> str:
        return OUTCOME_WORDS.get(self.outcome, "not measured")


@dataclass(frozen=True)
class ComparedCase:
    """A case with the answers of both models. ``before`` is None if the first model was not evaluated on this
    case."""

    id: str
    tags: tuple[str, ...]
    prompt: str
    before: CaseAnswer | None
    after: CaseAnswer


@dataclass(frozen=True)
class Group:
    """The cases with the same change, such as all that regressed."""

    key: str
    title: str
    shown: tuple[ComparedCase, ...]
    others: tuple[str, ...]
    """The ids of the cases beyond ``SHOWN_CASES``."""

    @property
    def count(self) -> int:
        return len(self.shown) + len(self.others)


@dataclass(frozen=True)
class Comparison:
    """The comparison of two models on one set of cases."""

    key: str
    """The name of the files with the outputs of this set, without the suffix."""
    title: str
    before: str
    after: str
    groups: tuple[Group, ...]
    total: int


_GROUPS = (
    ("regressed", "Regressed", (True, False)),
    ("failing", "Still failing", (False, False)),
    ("fixed", "Fixed", (False, True)),
    ("passing", "Still passing", (True, True)),
)
"""The groups in the order shown: key, title, and whether the first and the second model passed."""


def comparisons(job: Collected, stages: Sequence[StageHistory]) -> list[Comparison]:
    """Compare the two models that matter most at this time, once for each set of cases.

    After the final gate, these are the base model and the artifact. Before it, they depend on the last stage
    that has an evaluated checkpoint. If this stage stopped, they are its best checkpoint or starting model,
    and the checkpoint at which it stopped. Otherwise, they are its starting model and its newest checkpoint.
    """
    gate = job.workspace / job.paths.gate
    if job.results.find(Subject.FINAL):
        files = {name: (gate / base_file(name), gate / name) for name in _file_names(job, "test")}
        return _compare(files, "Base model", "Tuned model")
    evaluated = [stage for stage in stages if len(stage.checkpoints) > 1]
    if not evaluated:
        return []
    stage = evaluated[-1]
    first, last = (stage.stop.best_step, stage.stop.step) if stage.stop else (0, stage.checkpoints[-1].step)
    before = f"Step {first}, the best so far" if first else "Starting model"
    after = f"Step {last}, which stopped" if stage.stop else f"Step {last}"
    folders = [job.workspace / job.paths.evaluation(stage.name, step) for step in (first, last)]
    files = {name: (folders[0] / name, folders[1] / name) for name in _file_names(job, "dev", stage.name)}
    return _compare(files, before, after)


def _file_names(job: Collected, split: str, stage: str | None = None) -> list[str]:
    gates = job.request.gates_of(stage) if stage else job.request.final_gates
    golden = [golden_file(gate.name) for gate in gates]
    return [*golden, rows_file(split), pairs_file(split)]


def _compare(files: Mapping[str, tuple[Path, Path]], before: str, after: str) -> list[Comparison]:
    found = []
    for name, (first, second) in files.items():
        pairs = _pairs(read_lines(first), read_lines(second))
        if pairs:
            key = name.removesuffix(".jsonl")
            found.append(
                Comparison(
                    key=key,
                    title=_title(key),
                    before=before,
                    after=after,
                    groups=_grouped(pairs),
                    total=len(pairs),
                )
            )
    return found


def _title(key: str) -> str:
    if key.startswith("golden-"):
        return f"Golden set {key.removeprefix('golden-')}"
    return f"Held-out rows, {key}"


def _pairs(before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]) -> list[ComparedCase]:
    earlier = {str(case.get("id")): _answer(case) for case in before}
    return [
        ComparedCase(
            id=str(case.get("id")),
            tags=tuple(str(tag) for tag in case.get("tags") or ()),
            prompt=_shown(case.get("prompt")),
            before=earlier.get(str(case.get("id"))),
            after=_answer(case),
        )
        for case in after
    ]


def _answer(case: Mapping[str, Any]) -> CaseAnswer:
    outcomes = {str(k): str(v) for k, v in dict(case.get("outcomes") or {}).items()}
    letters = set(outcomes.values()) or {ERROR}
    worst = next((letter for letter in (ERROR, TRUNCATED, FAIL) if letter in letters), None)
    return CaseAnswer(
        text=_shown(case.get("output")),
        outcome=worst or (PASS if letters == {PASS} else ERROR),
        explanation=_shown(case.get("explanation")),
        measures={k: OUTCOME_WORDS.get(v, "not measured") for k, v in outcomes.items()}
        if len(outcomes) > 1
        else {},
    )


def _grouped(pairs: Sequence[ComparedCase]) -> tuple[Group, ...]:
    groups = []
    for key, title, passed in _GROUPS:
        # Without a first answer, a case counts as unchanged.
        chosen = [p for p in pairs if ((p.before or p.after).passed, p.after.passed) == passed]
        if chosen:
            groups.append(
                Group(key, title, tuple(chosen[:SHOWN_CASES]), tuple(p.id for p in chosen[SHOWN_CASES:]))
            )
    return tuple(groups)


def _shown(text: object) -> str:
    """Return ``text`` as valid UTF-8, cut to ``SHOWN_CHARACTERS``."""
    whole = str(text or "").encode("utf-8", "replace").decode()
    if len(whole) <= SHOWN_CHARACTERS:
        return whole
    return f"{whole[:SHOWN_CHARACTERS]}… ({len(whole) - SHOWN_CHARACTERS:,} more characters on the volume)"
