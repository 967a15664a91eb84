"""Read all files that a job has written to the volume so far. Missing files are skipped."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import AliasPath, BaseModel, Field, ValidationError

from tunegate_api.contract.plan import Plan
from tunegate_api.contract.process import Role
from tunegate_api.contract.report import Report
from tunegate_api.contract.request import Request
from tunegate_api.contract.results import Evaluation, Results, golden_set, task_set
from tunegate_api.contract.workspace import RESULT, Workspace, golden_file, pairs_file, rows_file, safety_file
from tunegate_api.judging.case_comparison import parse_lines
from tunegate_api.judging.review import ReviewRecord
from tunegate_api.v1alpha2.evaluation_status import PersonDecision
from tunegate_api.verdict.outcomes import CaseSet, group_numbers
from tunegate_api.verdict.safety import safety_set
from tunegate_trainer.artifacts.gate_result import GateRoleResult
from tunegate_trainer.tokens.rows import PREFERENCE

logger = logging.getLogger(__name__)
ModelT = TypeVar("ModelT", bound=BaseModel)


class RowNote(BaseModel):
    """A row that is bad or was dropped, with its place and the reason."""

    reason: str
    file: str = ""
    line: int | None = None
    row: int | None = None

    @property
    def place(self) -> str:
        """Such as ``line 3`` or ``part-2.parquet row 3``."""
        return f"{self.file} {f'line {self.line}' if self.row is None else f'row {self.row}'}".lstrip()


class LengthHistogram(BaseModel):
    """A histogram of row lengths in tokens: ``counts[i]`` rows have more than ``i * width`` and
    at most ``(i + 1) * width`` tokens."""

    mean: float
    max: int
    width: int
    counts: list[int]


class CheckNote(BaseModel):
    """A finding of a data check."""

    check: str
    result: str
    """``Refused``, ``Warned``, or ``Passed`` if the finding is within the limit of the check."""
    message: str
    count: int
    share: str | None
    """The measured value that was compared with the limit. None if the check has no limit."""
    examples: list[str]
    remedy: str


class DataNotes(BaseModel):
    """The content of data/report.json. Any field may be missing, because a check may end the data role."""

    rows: int | None = None
    format: str = ""
    """The name of the file format of the source of use Train."""
    shape: str = ""
    """The name of the shape of the rows of use Train."""
    bad: list[RowNote] = []
    dropped: list[RowNote] = []
    overlapping_prompts: int | None = Field(None, validation_alias=AliasPath("split", "overlapping_prompts"))
    lengths: LengthHistogram | None = None
    checks: list[CheckNote] = []
    distribution: Any = None
    """The comparison with production inputs, see :mod:`tunegate_trainer.report.production`."""


@dataclass(frozen=True)
class LossPoint:
    """The measurements of one optimizer step. A missing measurement is 0 or None."""

    step: int
    loss: float
    seconds: float = 0
    time: float = 0
    """The time at which the step ended, in seconds since 1970."""
    learning_rate: float | None = None
    grad_norm: float | None = None
    tokens: int = 0
    reward_margin: float | None = None
    """For DPO, the mean reward margin of the step's pairs. The margin is beta times the difference between
    the model's and the reference model's preference for the chosen answer."""
    reward_accuracy: float | None = None
    """For DPO, the fraction of the step's pairs with a positive reward margin."""


_MEASURED = {field.name for field in fields(LossPoint)}


@dataclass(frozen=True)
class Collected:
    """All data of one job on the volume."""

    request: Request
    workspace: Path
    paths: Workspace
    plan: Plan | None
    notes: DataNotes
    reports: Mapping[str, Report]
    """The last report of each role and stage, by file name without suffix, such as ``data`` or
    ``train-sft``."""
    results: Results
    losses: Mapping[str, tuple[LossPoint, ...]]
    """The measurements of all optimizer steps, by stage."""
    gate_result: GateRoleResult | None
    """The result file of the final gate."""
    review: ReviewRecord | None
    """The scores with which the review of the data was decided. None if it is not decided, or if they were
    deleted."""
    decision: PersonDecision | None = None
    """A person's decision about the final verdict. None until it is made, or if none was needed."""

    @property
    def stage_names(self) -> list[str]:
        return [stage.name for stage in self.request.spec.stages]

    def report_of(self, role: Role, stage: str | None = None) -> Report | None:
        return self.reports.get(f"{role}-{stage}" if stage else str(role))


def collect(
    workspace: Path,
    request: Request,
    review: ReviewRecord | None = None,
    decision: PersonDecision | None = None,
) -> Collected:
    """Read the files below ``workspace/<uid>``. A file that cannot be read is logged and left out."""
    paths = Workspace(request.uid)
    stages = [stage.name for stage in request.spec.stages]
    files = sorted((workspace / paths.outbox).glob("*.json"))
    reports = {path.stem: report for path in files if (report := _read(path, Report))}
    names = [f"{Role.TRAIN}-{stage}" for stage in stages] + [str(Role.GATE), str(Role.PUBLISH)]
    results = Results()
    for name in names:  # in the order of stages, because the first stage's starting model is the base model
        if name in reports:
            results = results.merged(reports[name].results)
    plan = _read(workspace / paths.data / "plan.json", Plan)
    if plan is None and "data" in reports:
        plan = reports["data"].plan
    for stage in stages:
        folder = workspace / paths.evaluation(stage, 0).parent
        results = results.merged(_evaluated(folder, request, plan, results.sets))
    return Collected(
        request=request,
        workspace=workspace,
        paths=paths,
        plan=plan,
        notes=_read(workspace / paths.data / "report.json", DataNotes) or DataNotes(),
        reports=reports,
        results=results,
        losses={stage: _losses(workspace / paths.stage(stage) / "losses.jsonl") for stage in stages},
        gate_result=_read(workspace / paths.gate / RESULT, GateRoleResult),
        review=review,
        decision=decision,
    )


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON Lines file up to the first line that is not an object. Returns an empty
    list if the file is missing or cannot be read."""
    try:
        return parse_lines(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return []


def _read(path: Path, model: type[ModelT]) -> ModelT | None:
    """Return the content of a file, or None if it is missing. A file that cannot be read is left out."""
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        logger.warning("%s is left out of the report: %s", path, error)
        return None


def _evaluated(folder: Path, request: Request, plan: Plan | None, reported: Mapping[str, CaseSet]) -> Results:
    """Return the evaluations in ``evals/<stage>``, and the ids and tags of their cases.

    The ids and tags are read from the files beside each ``result.json``. A set that was ``reported`` with
    the same cases is not replaced, because only the report has its labels.
    """
    sets: dict[str, CaseSet] = {}
    evaluations = []
    for path in sorted(folder.glob(f"step-*/{RESULT}")):
        evaluation = _read(path, Evaluation)
        if evaluation is None:
            continue
        evaluations.append(evaluation)
        for name, cases in _case_sets(path.parent, request, plan).items():
            known = reported.get(name)
            sets[name] = known if known and known.ids == cases.ids else cases
    return Results(sets=sets, evaluations=evaluations)


def _case_sets(folder: Path, request: Request, plan: Plan | None) -> dict[str, CaseSet]:
    """Return the cases of one evaluation by set: the cases of each golden set and safety set, and the dev
    rows or pairs of each task metric."""
    found = {
        golden_set(gate.name): _case_set(
            folder / golden_file(gate.name), gate.golden_sha256, joins_prompts=True
        )
        for gate in request.gates
    }
    found |= {
        safety_set(gate.name): _case_set(folder / safety_file(gate.name), gate.safety_sha256 or "")
        for gate in request.gates
    }
    preference = plan.data.preference if plan else None
    rows = _case_set(folder / rows_file("dev"), plan.data.dev.sha256 if plan else "")
    pairs = _case_set(folder / pairs_file("dev"), preference.dev.sha256 if preference else "")
    for metric in request.spec.task_metrics:
        found[task_set("dev", metric.name)] = pairs if metric.type == PREFERENCE else rows
    return {name: cases for name, cases in found.items() if cases.ids}


def _case_set(path: Path, sha256: str, *, joins_prompts: bool = False) -> CaseSet:
    """Return the cases in a file of results. Golden cases with equal prompts are in one group."""
    cases = read_lines(path)
    prompts = [(case.get("prompt") or None) if joins_prompts else None for case in cases]
    return CaseSet(
        sha256=sha256,
        ids=[str(case.get("id", "")) for case in cases],
        tags=[[str(tag) for tag in case.get("tags", ())] for case in cases],
        groups=group_numbers([case.get("group") or None for case in cases], prompts),
    )


def _losses(path: Path) -> tuple[LossPoint, ...]:
    """Return the points in the order of steps. If a resumed run wrote a step twice, the last line counts."""
    points: dict[int, LossPoint] = {}
    for line in read_lines(path):
        known = {name: line[name] for name in _MEASURED if line.get(name) is not None}
        if "step" in known and math.isfinite(known.get("loss", math.nan)):
            points[known["step"]] = LossPoint(**known)
    return tuple(points[step] for step in sorted(points))
