"""The data role: fetch model and data, check every row, hold rows away, and write down the plan.

It needs no GPU, and what it refuses never asks for one.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from transformers import PreTrainedTokenizerBase

from tunegate_api.contract import MINIMUM_ROWS, DataPlan, Plan, Request, SplitPlan, Workspace
from tunegate_api.meta import exact
from tunegate_trainer.context import Context
from tunegate_trainer.data.measures import check_measures
from tunegate_trainer.data.models import model_length, resolve_model
from tunegate_trainer.data.parse import LabelledRow, Parsed, RowProblem, parse_rows, prompt_text
from tunegate_trainer.data.plan import (
    check_outcomes,
    library_versions,
    plan_stage,
    stage_max_length,
    stage_seed,
)
from tunegate_trainer.data.sources import read_source
from tunegate_trainer.data.split import Split, find_overlaps, join_groups, normalize, split_rows
from tunegate_trainer.data.target_modules import check_target_modules
from tunegate_trainer.errors import BadDataError, TooFewRowsError, TrainerError, UserError
from tunegate_trainer.evaluate.sets import check_split
from tunegate_trainer.files import is_complete, write_atomic, write_model
from tunegate_trainer.model import example_tokens, load_tokenizer
from tunegate_trainer.rows import write_rows

logger = logging.getLogger(__name__)

SHOWN_PROBLEMS = 10
"""Bad rows that an error names; the report on the volume has all of them."""
MAX_TOO_LONG = 0.01
"""Share of rows that may be left out for their length."""


@dataclass(frozen=True)
class Measured:
    """A usable row with its length in tokens, prompt and completion, and the group it stays with."""

    labelled: LabelledRow
    tokens: int
    group: str


def run(context: Context) -> None:
    """Make the plan and the files it pins, or find them made by an earlier attempt, and report it.

    Raises :class:`TrainerError` for whatever keeps the job from training.
    """
    request, folder = context.request, context.workspace / context.paths.data
    plan = _made_before(context.workspace, folder)
    if plan is None:
        plan = _make(context, request, folder)
    context.tell(plan=plan)
    data = plan.data
    logger.info("data: %d train, %d dev, %d test rows", data.train.rows, data.dev.rows, data.test.rows)


def _made_before(workspace: Path, folder: Path) -> Plan | None:
    """The plan of an earlier attempt, if it and everything that it pins is still there."""
    try:
        plan = Plan.model_validate_json((folder / "plan.json").read_bytes())
        for split in ("train", "dev", "test"):
            check_split(folder / f"{split}.jsonl", getattr(plan.data, split))
    except (FileNotFoundError, ValidationError, TrainerError):
        return None
    return plan if is_complete(workspace / Workspace.base_model(plan.model.digest)) else None


def _make(context: Context, request: Request, folder: Path) -> Plan:
    spec = request.spec
    logger.info("fetching the model %s", spec.model.uri)
    model = resolve_model(context.root, context.workspace, spec.model)
    model_folder = context.workspace / Workspace.base_model(model.digest)
    longest_chat = model_length(model_folder)
    tokenizer = _load_tokenizer(model_folder)
    check_target_modules(model_folder, spec.stages)
    golden_cases = check_measures(context, tokenizer)

    text, digest = read_source(context.root, spec.data.train, "data.train")
    parsed = parse_rows(text, spec.data.train.columns, spec.data.held_out.group_by)
    report: dict[str, Any] = {
        "rows": len(parsed.rows) + len(parsed.bad) + len(parsed.duplicates),
        "bad": [asdict(problem) for problem in parsed.bad],
        "dropped": [asdict(problem) for problem in parsed.duplicates],
    }
    _write_report(folder, report)
    _refuse_bad_rows(parsed)

    longest = min(stage_max_length(stage, longest_chat) for stage in spec.stages)
    kept, too_long = _within(tokenizer, parsed.rows, longest)
    dropped = sorted([*parsed.duplicates, *too_long], key=lambda problem: problem.line)
    report |= {"dropped": [asdict(problem) for problem in dropped], "lengths": _histogram(kept)}
    _write_report(folder, report)
    _refuse_too_long(too_long, len(parsed.rows), longest)

    kept, joined = _joined(kept)
    seed = stage_seed(spec.stages[0])
    split = split_rows(kept, exact(spec.data.held_out.fraction), seed)
    report["split"] = _prove(split, kept, seed)
    _write_report(folder, report)
    warnings = joined + _check_sizes(request, split, len(kept))

    lengths = [row.tokens for row in split.train]
    stages = [plan_stage(request, stage, lengths, longest_chat) for stage in spec.stages]
    check_outcomes(stages, golden_cases, len(split.dev) * len(spec.task_metrics))
    plan = Plan(
        job_uid=request.uid,
        model=model,
        data=DataPlan(
            source_sha256=digest,
            train=_write_split(folder, "train", split.train),
            dev=_write_split(folder, "dev", split.dev),
            test=_write_split(folder, "test", split.test),
            dropped=len(dropped),
            warnings=warnings,
        ),
        stages=stages,
        versions=library_versions(),
    )
    write_model(folder / "plan.json", plan)  # last: it says that all it pins is there
    return plan


def _refuse_bad_rows(parsed: Parsed) -> None:
    if not parsed.bad and not parsed.rows:
        raise BadDataError("data.train has no rows", "write one JSON object a line")
    if parsed.bad:
        shown = "; ".join(f"line {p.line}: {p.reason}" for p in parsed.bad[:SHOWN_PROBLEMS])
        more = len(parsed.bad) - SHOWN_PROBLEMS
        rest = f"; and {more} more" if more > 0 else ""
        raise BadDataError(
            f"data.train: {len(parsed.bad)} bad rows: {shown}{rest}",
            "mend or remove these rows; data/report.json on the volume lists all of them",
        )


def _within(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[LabelledRow], longest: int
) -> tuple[list[Measured], list[RowProblem]]:
    """Rows of at most ``longest`` tokens, and the others."""
    kept: list[Measured] = []
    too_long: list[RowProblem] = []
    for row in rows:
        try:
            prompt, completion = example_tokens(tokenizer, row.row.prompt, row.row.completion)
        except UserError as error:
            raise BadDataError(f"data.train: line {row.line}: {error}", error.hint) from error
        tokens = len(prompt) + len(completion)
        if tokens <= longest:
            kept.append(Measured(row, tokens, row.group))
        else:
            too_long.append(RowProblem(row.line, f"{tokens} tokens, at most {longest}"))
    return kept, too_long


def _joined(rows: Sequence[Measured]) -> tuple[list[Measured], list[str]]:
    """The rows with groups that share no prompt, and a warning where such groups had to be joined."""
    prompts = [normalize(prompt_text(row.labelled.row.prompt)) for row in rows]
    groups = join_groups([(row.group, prompt) for row, prompt in zip(rows, prompts, strict=True)])
    before, after = len({row.group for row in rows}), len(set(groups))
    joined = [replace(row, group=group) for row, group in zip(rows, groups, strict=True)]
    if before == after:
        return joined, []
    return joined, [
        f"{before} groups of heldOut.groupBy share prompts and were joined to {after}, so that no held-out "
        "prompt is trained on"
    ]


def _refuse_too_long(too_long: list[RowProblem], rows: int, longest: int) -> None:
    if len(too_long) > MAX_TOO_LONG * rows:
        raise BadDataError(
            f"data.train: {len(too_long)} of {rows} rows are longer than {longest} tokens, the first in line "
            f"{too_long[0].line}; at most {MAX_TOO_LONG:.0%} may be left out",
            "raise training.maxLength, or shorten the rows",
        )


def _prove(split: Split[Measured], kept: Sequence[Measured], seed: int) -> dict[str, Any]:
    """Show that no prompt and no group is on two sides and no row got lost. An overlap is a bug of ours."""
    sides = {"train": split.train, "dev": split.dev, "test": split.test}
    prompts = {k: [normalize(prompt_text(r.labelled.row.prompt)) for r in rows] for k, rows in sides.items()}
    groups = {k: [r.group for r in rows] for k, rows in sides.items()}
    overlaps = find_overlaps(groups) + find_overlaps(prompts)
    if overlaps or sum(map(len, sides.values())) != len(kept):
        raise AssertionError(f"the split is not disjoint: {overlaps[:3]}")
    return {"seed": seed, "overlapping_prompts": 0, **{k: len(rows) for k, rows in sides.items()}}


def _check_sizes(request: Request, split: Split[Measured], rows: int) -> list[str]:
    """Raise when there is too little to evaluate on, or to learn from. Returns warnings."""
    data = request.spec.data
    for side in ("dev", "test"):
        if not getattr(split, side):
            raise BadDataError(
                f"the {side} split is empty: heldOut.fraction {data.held_out.fraction} of {rows} rows",
                "give more rows, a larger fraction, or a finer heldOut.groupBy",
            )
    minimum, found = MINIMUM_ROWS[data.goal], len(split.train)
    if found >= minimum:
        return []
    message = f"{found} training rows, goal {data.goal} needs at least {minimum}"
    if data.size_policy == "Refuse":
        raise TooFewRowsError(
            message,
            "give more rows, or set data.sizePolicy: Warn to train all the same, as for an experiment",
        )
    return [message]


def _write_split(folder: Path, name: str, rows: Sequence[Measured]) -> SplitPlan:
    path = folder / f"{name}.jsonl"
    return SplitPlan(rows=len(rows), sha256=write_rows(path, [row.labelled.row for row in rows]))


def _write_report(folder: Path, report: dict[str, Any]) -> None:
    write_atomic(folder / "report.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def _histogram(rows: Sequence[Measured], buckets: int = 10) -> dict[str, Any]:
    """Token lengths of rows in ``buckets`` equal steps."""
    lengths = sorted(row.tokens for row in rows)
    if not lengths:
        return {}
    width = max(1, -(-lengths[-1] // buckets))
    counts = [sum(1 for n in lengths if low < n <= low + width) for low in range(0, lengths[-1], width)]
    return {
        "mean": round(sum(lengths) / len(lengths), 1),
        "max": lengths[-1],
        "width": width,
        "counts": counts,
    }


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        return load_tokenizer(folder)
    except Exception as error:  # tokenizers raises no type of its own, and damage shows in many ways
        if getattr(error, "errno", None):  # the disk's error, not transformers' own
            raise
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(
            f"model.uri: its tokenizer cannot be loaded: {said}",
            "the folder needs a whole tokenizer.json, or all that this model's tokenizer consists of",
        ) from error
