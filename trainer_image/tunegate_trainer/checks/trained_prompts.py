"""Check for golden prompts that an earlier job trained on, if this job starts from that job's model."""

from collections.abc import Iterator

from tunegate_api.meta import summarize
from tunegate_trainer.checks.finding import SHOWN_EXAMPLES, CheckContext, Finding, Severity
from tunegate_trainer.checks.rows import SplitRows
from tunegate_trainer.data.parse import prompt_key, without_system

NAME = "trained_prompts"


def run(rows: SplitRows, context: CheckContext) -> Iterator[Finding]:
    """Warn about golden cases whose prompts an earlier job trained on."""
    trained = rows.earlier.trained
    found = [
        f"{case.id} of EvalGate {gate}"
        for gate, golden in context.golden.items()
        for case in golden
        if {prompt_key(case.turns), prompt_key(without_system(case.turns))} & trained
    ]
    if not found:
        return
    yield Finding(
        severity=Severity.WARNING,
        message="the model that the job starts from was trained on the prompts of these golden cases, "
        f"so they measure memorization: {summarize(found, SHOWN_EXAMPLES)}",
        count=len(found),
        examples=found[:SHOWN_EXAMPLES],
    )
