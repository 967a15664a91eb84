"""The command `tunegate gate error-rate`: measure how often the gates of a job are wrong."""

import signal
from collections.abc import Iterator, Sequence

import click
from rich.console import Console

from tunegate_api.contract.process import Role
from tunegate_api.contract.request import Request
from tunegate_api.contract.results import ErrorRateOutcomes, GateErrorRates
from tunegate_api.judging.error_rate import ErrorRates, error_rates
from tunegate_api.meta import summarize
from tunegate_api.verdict.bar import Bar
from tunegate_api.verdict.golden import judge_golden
from tunegate_api.verdict.outcomes import (
    PASS,
    Baseline,
    CaseSet,
    VerdictState,
    points_text,
)
from tunegate_api.verdict.tiers import counted_cases
from tunegate_client.cli import exit_codes
from tunegate_client.cli.place import NAME, Place, at_place
from tunegate_client.laptop.error_rate import measure
from tunegate_client.laptop.plan import ForecastError
from tunegate_client.places.client import ClientError, has_ended
from tunegate_client.places.runs import RunsClient
from tunegate_operator.engine.cluster import Object
from tunegate_operator.names import ROLE_LABEL

_SHOWN = 10
"""Maximum number of cases that are named."""
_MODEL = "the judged model"


@click.command()
@NAME
@click.option("--gate", "gates", multiple=True, help="A gate of the job. May be repeated.  [default: all]")
@click.option(
    "--repeats",
    type=click.IntRange(1, 20),
    default=4,
    show_default=True,
    help="Number of times that the judged model is evaluated again.",
)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@at_place
def error_rate(place: Place, *, name: str, gates: tuple[str, ...], repeats: int, output: str) -> None:
    """Measure how often the gates of a job are wrong.

    The job has run on this machine. The model that its final gate has judged is evaluated again with other
    batches, which shows cases that change their outcome by chance. Then models are evaluated that are worse
    on purpose: with 75 % and 50 % of the training, with answers to other cases, and without refusals. The job
    and its results are not changed.

    On a cluster, set spec.errorRate of the EvalGate: the final gate of its next job measures it.

    \b
    Exit codes: 0 all gates were measured, 1 a gate was not measured, 2 wrong options
    """
    if place.runs is None:
        raise ClientError(
            "this command measures jobs on this machine; on a cluster, set spec.errorRate of the EvalGate: "
            "the final gate of its next job measures it"
        )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the process of the model ends, too
    client = RunsClient(place.runs)
    job = client.get("FineTuneJob", name)
    request = client.read_request(job)
    pod = _gate_pod(client, job)
    if request is None:
        raise ClientError(f"FineTuneJob {name} has no request in {client.place}: run it first")
    chosen = _chosen(request, gates)
    console = Console(stderr=True)
    try:
        with console.status("measuring the error rate") as status:
            found = measure(
                pod, chosen, repeats, find=client.find, find_volume=client.volume, show=status.update
            )
    except ForecastError as error:
        raise ClientError(str(error)) from error
    if output == "json":
        click.echo(found.model_dump_json(by_alias=True, exclude_none=True, indent=2))
    else:
        click.echo("\n".join(error_rates_text(request, found)))
    raise SystemExit(exit_codes.FAILED if found.problems else 0)


def _gate_pod(client: RunsClient, job: Object) -> Object:
    """Return the newest pod of the final gate. Raises ClientError if there is none that has ended."""
    pods = [pod for pod in client.list_pods(job) if pod["metadata"]["labels"].get(ROLE_LABEL) == Role.GATE]
    if not pods or not has_ended(pods[-1]):
        name = job["metadata"]["name"]
        raise ClientError(
            f"FineTuneJob {name} has no judged model in {client.place}: run it until its final gate has ended"
        )
    return pods[-1]


def _chosen(request: Request, gates: Sequence[str]) -> list[str]:
    """Return the names of the gates to measure. Raises ClientError if the job does not have one of them."""
    names = [gate.name for gate in request.final_gates]
    for name in gates:
        if name not in names:
            raise ClientError(f"FineTuneJob {request.name} has no gate {name}, only {summarize(names, 20)}")
    return list(dict.fromkeys(gates)) or names


def error_rates_text(request: Request, found: GateErrorRates) -> Iterator[str]:
    """Yield the lines that describe what was measured, for all gates."""
    for name, outcomes in found.outcomes.items():
        gate, cases = request.gate(name), found.sets[name]
        yield f"gate {name}, {len(cases.ids)} golden cases"
        yield from _gate_text(cases, gate.bar, outcomes)
    for name, problem in found.problems.items():
        yield f"gate {name} was not measured: {problem}"


def _gate_text(cases: CaseSet, bar: Bar, outcomes: ErrorRateOutcomes) -> Iterator[str]:
    evaluations = [outcomes.reference, *outcomes.repeats]
    flaky = [
        f"{case} {sum(each[i] == PASS for each in evaluations)}/{len(evaluations)}"
        for i, case in enumerate(cases.ids)
        if len({each[i] == PASS for each in evaluations}) > 1
    ]
    changing = f"cases that change: {summarize(flaky, _SHOWN)}" if flaky else "no case changes its outcome"
    yield f"  {len(outcomes.repeats)} repeats: {changing}"
    for planted in outcomes.planted:
        yield f"  {planted.name}: {_planted_text(cases, bar, outcomes.reference, planted.outcomes)}"
    yield from _rates_text(error_rates(cases, bar, outcomes))
    yield f"  {outcomes.evaluations} evaluations in {outcomes.seconds / 60:.1f} min"


def _rates_text(rates: ErrorRates) -> Iterator[str]:
    if rates.problem:
        yield f"  the error rate is unknown: {rates.problem}"
        return
    alarm = rates.false_alarm
    yield f"  as good as this model: {alarm.share:.1%} of models do not pass (at most {alarm.high:.1%})"
    for each in rates.detection:
        interval = f"{each.low:.1%} to {each.high:.1%}"
        yield f"  {float(each.points):g} points worse: {each.share:.1%} of models do not pass ({interval})"


def _planted_text(cases: CaseSet, bar: Bar, reference: str, outcomes: str) -> str:
    """Compare a planted model with the judged model by the rules of the gate."""
    before = counted_cases(cases, bar).of(reference).count(PASS)
    verdict = judge_golden(cases, outcomes, bar, {_MODEL: Baseline(cases.sha256, reference)})
    change = points_text((verdict.delta_points or {})[_MODEL])
    state = "not found" if verdict.state is VerdictState.PASSED else f"found, {verdict.state}"
    return f"{verdict.passed}/{verdict.total}, {change} points from {before}/{verdict.total}: {state}"
