"""Check for gates whose ``maxNewTokens`` is shorter than many training answers."""

from collections.abc import Iterator

from tunegate_api.verdict.outcomes import MAX_TRUNCATED
from tunegate_trainer.checks.finding import CheckContext, Finding, Severity
from tunegate_trainer.checks.rows import SplitRows

NAME = "cut_answers"


def run(rows: SplitRows, context: CheckContext) -> Iterator[Finding]:
    """Warn about each gate whose ``maxNewTokens`` is exceeded by too many training answers: outputs of the
    same length would be truncated."""
    methods = {stage.method for stage in context.request.spec.stages}
    answers = [row.answer for row in rows.rows.train] if "SFT" in methods else []
    answers += [pair.answer for pair in rows.pairs.train] if "DPO" in methods else []
    for gate in context.request.gates:
        most = gate.spec.generation.max_new_tokens
        longer = sum(length > most for length in answers)
        if longer > MAX_TRUNCATED * len(answers):
            yield Finding(
                severity=Severity.WARNING,
                message=f"EvalGate {gate.name}: generation.maxNewTokens is {most}, but {longer} of "
                f"{len(answers)} training answers are longer; a truncated output does not pass, so raise "
                "maxNewTokens if the model should give answers of this length",
                count=longer,
            )
