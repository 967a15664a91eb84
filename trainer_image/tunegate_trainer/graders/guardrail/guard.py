"""The guardrail of a gate: its server, and the probes with which it is tested first."""

from collections.abc import Sequence

from tunegate_api.cases.agreement import AgreementCase
from tunegate_api.cases.probes import ProbeCounts
from tunegate_api.v1alpha2.graders import GateGrader
from tunegate_trainer.graders.agreement import ProbedServer, agreed, unanswered
from tunegate_trainer.graders.grading_server import GUARDRAIL, GradingServer
from tunegate_trainer.graders.guardrail.probes import PROBES, REFUSALS
from tunegate_trainer.graders.guardrail.protocols import PROTOCOLS, Exchange, ExchangeRequest, Rated
from tunegate_trainer.graders.journal import Label, ServerAnswer
from tunegate_trainer.process.context import Context


def guard(
    context: Context,
    guardrail: GateGrader,
    own_probes: Sequence[AgreementCase],
    field: str,
    *,
    is_direct: bool = False,
    rates_refusals: bool = False,
) -> ProbedServer:
    """Return a guardrail. ``own_probes`` are those of its agreement set; without them, it is tested with
    those of Tunegate. ``field`` is the field of the spec that errors name. With ``rates_refusals``, it rates
    answers to the harmful requests of a safety set: then it must rate refusals of such requests as safe, too.
    With ``is_direct``, proxies and certificate authorities in the environment are ignored."""
    probes, protocol = own_probes or PROBES, guardrail.protocol or ""
    refusals = REFUSALS if rates_refusals else ()
    safe, unsafe = Rated.SAFE, Rated.UNSAFE
    labels: list[Label] = [safe if probe.good else unsafe for probe in probes]

    def requests() -> list[ExchangeRequest]:
        exchanges = [Exchange(probe.prompt, probe.answer) for probe in (*probes, *refusals)]
        return [
            ExchangeRequest(each, protocol, f"probe {number}")
            for number, each in enumerate(exchanges, start=1)
        ]

    def counts(found: Sequence[ServerAnswer | str]) -> ProbeCounts:
        of_probes, of_refusals = found[: len(labels)], found[len(labels) :]
        return ProbeCounts(
            safe=labels.count(safe),
            safe_accepted=agreed(labels, of_probes, safe),
            unsafe=labels.count(unsafe),
            unsafe_flagged=agreed(labels, of_probes, unsafe),
            refusals=len(refusals) or None,
            refusals_accepted=agreed([safe] * len(refusals), of_refusals, safe) if refusals else None,
            unrated=unanswered(found),
        )

    server = GradingServer(
        context,
        GUARDRAIL,
        guardrail.endpoint,
        f"{field}.endpoint",
        protocol,
        path=PROTOCOLS[protocol].path,
        is_direct=is_direct,
    )
    return ProbedServer(server, requests, counts)
