"""Check the servers that gates name, before a model is loaded or downloaded."""

from tunegate_api.cases.golden import GoldenCase
from tunegate_trainer.evaluate.endpoint_server import check_endpoints
from tunegate_trainer.evaluate.gate_sets import read_sets
from tunegate_trainer.graders import gate_servers
from tunegate_trainer.process.context import Context


def check_servers(context: Context) -> tuple[dict[str, list[GoldenCase]], list[str]]:
    """Check the addresses and API keys of the servers that the job's gates name, and then probe guardrails
    and the judges of safety sets. Return the golden cases by the name of the gate, and warnings.

    Raises :class:`TrainerError` if a server cannot be used, or if it does not count and cases need it.
    """
    check_endpoints(context, context.request.final_gates)
    golden = read_sets(context, context.request.gates, GoldenCase)
    gate_servers.check_addresses(context, golden)
    return golden, gate_servers.check_probes(context, golden)
