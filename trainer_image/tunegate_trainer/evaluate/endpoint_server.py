"""The server of the model that is live now, which a gate compares with."""

from collections.abc import Sequence

from tunegate_api.contract.request import GateRequest
from tunegate_api.v1alpha2.compared import ENDPOINT_FIELD
from tunegate_api.v1alpha2.endpoint import Endpoint
from tunegate_trainer.graders.server.chat_server import REQUEST_SECONDS, ChatServer, open_server
from tunegate_trainer.process.context import Context

TOKENS_PER_SECOND = 20
"""How fast a slow server generates an answer."""


def check_endpoints(context: Context, gates: Sequence[GateRequest]) -> None:
    """Check the addresses and API keys of the servers that ``gates`` name. Sends nothing. Raises the errors
    of :func:`endpoint_server`."""
    for gate in gates:
        if gate.spec.endpoint:
            with context.tolerating(gate):
                endpoint_server(context, gate.spec.endpoint, gate)


def endpoint_server(context: Context, endpoint: Endpoint, gate: GateRequest) -> ChatServer:
    """Return the server at ``endpoint``, which ``gate`` compares with. The longest answer that the gate
    allows does not exceed the time limit of a request, even if the server is slow. For a required gate, the
    proxies and certificate authorities of the job are ignored, because with them its author could forge the
    answers.

    Raises :class:`TrainerError` if its address or its API key cannot be used.
    """
    seconds = max(REQUEST_SECONDS, gate.spec.generation.max_new_tokens / TOKENS_PER_SECOND)
    field = f"EvalGate {gate.name}: {ENDPOINT_FIELD}"
    return open_server(context, endpoint, field, seconds, is_direct=gate.required)
