"""Two models on the same cases, side by side: what regressed, what still fails, what was fixed."""

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
"""Cases of a group that are shown with their outputs; of the others the ids."""
SHOWN_CHARACTERS = 6000
"""Characters of a text that are shown."""
OUTCOME_WORDS = {PASS: "passed", FAIL: "failed", TRUNCATED: "cut off", ERROR: "not measured"}


@dataclass(frozen=True)
class CaseAnswer:
    """What one model answered to a case."""

    text: str
    outcome: str
    """One letter, the worst of its measures."""
    explanation: str
    measures: Mapping[str, str]
    """The word for each measure, where there are several."""

    @property
    def passed(self) -> bool:
        return self.outcome == PASS

    @property
    def word(self) -> str:
        return OUTCOME_WORDS.get(self.outcome, "not measured")


@dataclass(frozen=True)
class ComparedCase:
    """One case and both answers. ``before`` is None where the first model was not measured on it."""

    id: str
    tags: tuple[str, ...]
    prompt: str
    before: CaseAnswer | None
    after: CaseAnswer


@dataclass(frozen=True)
class Group:
    """Cases with the same change."""

    key: str
    title: str
    shown: tuple[ComparedCase, ...]
    others: tuple[str, ...]
    """Ids of those beyond ``SHOWN_CASES``."""

    @property
    def count(self) -> int:
        return len(self.shown) + len(self.others)


@dataclass(frozen=True)
class Comparison:
    """Two models on one set of cases."""

    key: str
    """The name of its files, without ending."""
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
"""In the order they are shown, each with whether the first and the second model passed."""


def comparisons(job: Collected, stages: Sequence[StageHistory]) -> list[Comparison]:
    """The base model against the artifact; before there is one, against the newest checkpoint; of a stopped
    stage, its best checkpoint against the one that stopped it."""
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
        # Without a first answer there is no change to speak of: such a case counts as what it is now.
        chosen = [p for p in pairs if ((p.before or p.after).passed, p.after.passed) == passed]
        if chosen:
            groups.append(
                Group(key, title, tuple(chosen[:SHOWN_CASES]), tuple(p.id for p in chosen[SHOWN_CASES:]))
            )
    return tuple(groups)


def _shown(text: object) -> str:
    """Text that every browser and encoder can take, in a bounded length."""
    whole = str(text or "").encode("utf-8", "replace").decode()
    if len(whole) <= SHOWN_CHARACTERS:
        return whole
    return f"{whole[:SHOWN_CHARACTERS]}… ({len(whole) - SHOWN_CHARACTERS:,} more characters on the volume)"
