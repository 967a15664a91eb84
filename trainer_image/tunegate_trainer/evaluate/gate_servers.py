"""Check the servers that gates name, before a model is loaded or downloaded."""

from tunegate_api.cases.golden import GoldenCase, with_expectation
from tunegate_trainer.evaluate.golden_sets import read_cases
from tunegate_trainer.evaluate.served_server import check_served
from tunegate_trainer.graders.safety_servers import check_safety_judges, check_safety_servers
from tunegate_trainer.graders.servers import GUARDRAIL, JUDGE, check_guardrails, gate_guard, gate_judge
from tunegate_trainer.process.context import Context


def check_servers(context: Context) -> tuple[dict[str, list[GoldenCase]], list[str]]:
    """Check the addresses and API keys of the servers that the job's gates name, and then probe guardrails
    and the judges of safety sets. Return the golden cases by the name of the gate, and warnings.

    Raises :class:`TrainerError` if a server cannot be used, or if it does not count and cases need it.
    """
    check_served(context, context.request.final_gates)
    golden = read_cases(context, context.request.gates)
    for gate in context.request.gates:
        cases = golden.get(gate.name, ())
        with context.tolerating(gate):
            if with_expectation(JUDGE, cases):
                gate_judge(context, gate).outputs.open()
            if with_expectation(GUARDRAIL, cases):
                gate_guard(context, gate).open()
    check_safety_servers(context)
    return golden, [*check_guardrails(context, golden), *check_safety_judges(context)]
