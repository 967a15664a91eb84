"""Golden prompts that stand in the training data: a gate would measure memory instead of ability."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tunegate_api.contract import GateRequest
from tunegate_api.judging.golden import parse_golden
from tunegate_trainer.data.held_out import answered_prompts
from tunegate_trainer.data.parse import prompt_text
from tunegate_trainer.data.sides import Sides
from tunegate_trainer.data.split import normalize, text_key
from tunegate_trainer.data.usable import SHOWN_PROBLEMS, Measured
from tunegate_trainer.evaluate.sets import golden_text
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import BadDataError


@dataclass(frozen=True)
class GoldenPrompt:
    """A row or pair whose prompt is that of a golden case. Lines count from 1."""

    source: str
    """``data.train`` or ``data.preference``."""
    line: int
    gate: str
    case: str


def refuse_golden_prompts(
    context: Context,
    sources: Mapping[str, Sequence[Measured[Any]]],
    note: Callable[[dict[str, Any]], None],
) -> None:
    """Compare the prompts of ``sources``, by the field that each comes from, with those of all golden sets.

    Whole prompts are compared, all turns together, after :func:`normalize`: equal ones count, similar ones do
    not. ``note`` receives every equal one.

    Raises :class:`BadDataError` naming lines and cases.
    """
    cases = _cases_by_prompt(context, context.request.gates)
    found = [
        GoldenPrompt(source, measured.labelled.line, gate, case)
        for source, rows in sources.items()
        for measured in rows
        for prompt in answered_prompts(measured)
        for gate, case in cases.get(prompt, ())
    ]
    if not found:
        return
    note({"golden_prompts": [asdict(one) for one in found]})
    shown = "; ".join(
        f"{one.source} line {one.line} is case {one.case} of EvalGate {one.gate}"
        for one in found[:SHOWN_PROBLEMS]
    )
    more = f"; and {len(found) - SHOWN_PROBLEMS} more" if len(found) > SHOWN_PROBLEMS else ""
    count = len({(one.source, one.line) for one in found})
    rows_have = "1 row has" if count == 1 else f"{count} rows have"
    raise BadDataError(
        f"{rows_have} the prompt of a golden case: {shown}{more}",
        "a model that trains on a golden prompt is not measured by it: remove these rows, which "
        "data/report.json on the volume lists in full",
    )


def learned_before(context: Context, earlier: Sides) -> list[str]:
    """A warning that names the golden cases whose prompts the starting model was trained on."""
    trained = earlier.trained
    found = [
        f"{case} of EvalGate {gate}"
        for gate, case, prompt in _golden_prompts(context, context.request.gates)
        if text_key(prompt) in trained
    ]
    if not found:
        return []
    more = f" and {len(found) - SHOWN_PROBLEMS} more" if len(found) > SHOWN_PROBLEMS else ""
    return [
        "the model that the job starts from was trained on the prompts of these golden cases, which measure "
        f"memory: {', '.join(found[:SHOWN_PROBLEMS])}{more}"
    ]


def _cases_by_prompt(context: Context, gates: Sequence[GateRequest]) -> dict[str, list[tuple[str, str]]]:
    """Gate and id of the golden cases with each normalized prompt."""
    cases: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for gate, case, prompt in _golden_prompts(context, gates):
        cases[prompt].append((gate, case))
    return cases


def _golden_prompts(context: Context, gates: Sequence[GateRequest]) -> Iterator[tuple[str, str, str]]:
    for gate in gates:
        for case in parse_golden(golden_text(context.root, gate.name, gate.spec.golden.source)):
            yield gate.name, case.id, normalize(prompt_text(case.turns))
