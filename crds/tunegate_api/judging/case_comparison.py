"""Compare the outputs of two models case by case: regressed, still failing, fixed, still passing.

The report and the web page show these comparisons. No I/O: the caller passes a function that reads files.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from tunegate_api.contract.workspace import (
    Workspace,
    base_file,
    golden_file,
    pairs_file,
    rows_file,
    safety_file,
)
from tunegate_api.verdict.outcomes import ERROR, FAIL, PASS, SEALED, TRUNCATED

SHOWN_CASES = 100
"""The maximum number of cases per group that are shown with their outputs. For further cases, only the ids
are shown."""
SHOWN_CHARACTERS = 6000
"""The maximum number of characters of a text that are shown."""
OUTCOME_WORDS = {PASS: "passed", FAIL: "failed", TRUNCATED: "cut off", ERROR: "not measured"}

Lines = Sequence[Mapping[str, Any]]
"""The content of a file with one case per line."""


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


@dataclass(frozen=True)
class ComparedModels:
    """Two models that are compared, and the files with their outputs."""

    before: str
    after: str
    files: Mapping[str, tuple[PurePosixPath, PurePosixPath]]
    """The paths of both files relative to the root of the storage volume, by name of the second file."""


_GROUPS = (
    ("regressed", "Regressed", (True, False)),
    ("failing", "Still failing", (False, False)),
    ("fixed", "Fixed", (False, True)),
    ("passing", "Still passing", (True, True)),
)
"""The groups in the order shown: key, title, and whether the first and the second model passed."""


def final_models(paths: Workspace, gates: Sequence[str], with_safety: Sequence[str]) -> ComparedModels:
    """Return the base model and the artifact, which the final gate evaluated with these gates. The gates
    ``with_safety`` have a safety set."""
    names = [*_file_names(gates, "test"), *map(safety_file, with_safety)]
    files = {name: (paths.gate / base_file(name), paths.gate / name) for name in names}
    return ComparedModels("Base model", "Tuned model", files)


def checkpoint_models(
    paths: Workspace,
    stage: str,
    first: int,
    last: int,
    gates: Sequence[str],
    *,
    with_safety: Sequence[str] = (),
    stopped: bool = False,
    is_best: bool = True,
) -> ComparedModels:
    """Return the models of a stage at the steps ``first`` and ``last``, of which step 0 is the starting
    model. The gates ``with_safety`` evaluate checkpoints on a safety set.

    ``stopped`` means that training stopped at ``last``, and ``is_best`` that it was compared with ``first``
    as the best checkpoint.
    """
    folders = [paths.evaluation(stage, step) for step in (first, last)]
    names = [*_file_names(gates, "dev"), *map(safety_file, with_safety)]
    files = {name: (folders[0] / name, folders[1] / name) for name in names}
    best = ", the best so far" if stopped and is_best else ""
    return ComparedModels(
        before=f"Step {first}{best}" if first else "Starting model",
        after=f"Step {last}, which stopped" if stopped else f"Step {last}",
        files=files,
    )


def compare(models: ComparedModels, read: Callable[[PurePosixPath], Lines]) -> list[Comparison]:
    """Return a comparison for each set of cases on which the second model was evaluated.

    ``read`` returns the lines of a file, and no lines if there is no such file.
    """
    found = []
    for name, (first, second) in models.files.items():
        pairs = _pairs(read(first), read(second))
        if pairs:
            key = name.removesuffix(".jsonl")
            found.append(
                Comparison(
                    key=key,
                    title=_title(key),
                    before=models.before,
                    after=models.after,
                    groups=_grouped(pairs),
                    total=len(pairs),
                )
            )
    return found


def parse_lines(text: str) -> list[dict[str, Any]]:
    """Return the objects of a JSON Lines file up to the first incomplete line."""
    lines: list[dict[str, Any]] = []
    for line in text.split("\n"):
        try:
            value = json.loads(line)
        except ValueError:
            break
        if not isinstance(value, dict):
            break
        lines.append(value)
    return lines


def _file_names(gates: Sequence[str], split: str) -> list[str]:
    return [*map(golden_file, gates), rows_file(split), pairs_file(split)]


def _title(key: str) -> str:
    if key.startswith("golden-"):
        return f"Golden set {key.removeprefix('golden-')}"
    if key.startswith("safety-"):
        return f"Safety set {key.removeprefix('safety-')}"
    return f"Held-out rows, {key}"


def _pairs(before: Lines, after: Lines) -> list[ComparedCase]:
    earlier = {str(case.get("id")): _answer(case) for case in before if not _is_sealed(case)}
    return [
        ComparedCase(
            id=str(case.get("id")),
            tags=tuple(str(tag) for tag in case.get("tags") or ()),
            prompt=_shown(case.get("prompt")),
            before=earlier.get(str(case.get("id"))),
            after=_answer(case),
        )
        for case in after
        if not _is_sealed(case)
    ]


def _is_sealed(case: Mapping[str, Any]) -> bool:
    return SEALED in dict(case.get("outcomes") or {}).values()


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
