"""Commands that change a job: continue, discard, suspend, resume."""

import click

from tunegate_client.cli.place import NAME, Place, at_place, notice
from tunegate_operator.engine.cluster import Object
from tunegate_operator.names import CONTINUE_ANNOTATION, DISCARD_ANNOTATION

GITOPS_MARKS = {
    "argocd.argoproj.io/tracking-id": "Argo CD",
    "argocd.argoproj.io/instance": "Argo CD",
    "kustomize.toolkit.fluxcd.io/name": "Flux",
    "helm.toolkit.fluxcd.io/name": "Flux",
}
"""Labels and annotations of objects that a GitOps tool applies, and the name of the tool."""


def _not_blank(_: click.Context, __: click.Parameter, reason: str) -> str:
    if not reason.strip():
        raise click.BadParameter("must not be blank")
    return reason


REASON = click.option(
    "--reason",
    required=True,
    callback=_not_blank,
    help="Reason for the decision, recorded in the job's status.",
)


@click.command("continue")
@NAME
@REASON
@at_place
def continue_(place: Place, *, name: str, reason: str) -> None:
    """Resume a run that a gate stopped.

    Training resumes from the run's last checkpoint. Later checkpoints are compared with this checkpoint and
    those after it, not with earlier ones.
    """
    if place.runs is None:
        _record_on_cluster(place, name, CONTINUE_ANNOTATION, reason)
        return
    from tunegate_client.cli.run import continue_run  # noqa: PLC0415 - not needed for a cluster

    place.client().get("FineTuneJob", name)
    continue_run(place.runs, name, reason, place.caller)


@click.command()
@NAME
@REASON
@at_place
def discard(place: Place, *, name: str, reason: str) -> None:
    """End a run that a gate stopped. Its checkpoints stay on the volume."""
    if place.runs is None:
        _record_on_cluster(place, name, DISCARD_ANNOTATION, reason)
        return
    from tunegate_client.cli.run import discard_run  # noqa: PLC0415 - not needed for a cluster

    place.client().get("FineTuneJob", name)
    discard_run(place.runs, name, reason)


@click.command()
@NAME
@at_place
def suspend(place: Place, *, name: str) -> None:
    """Suspend a job on a cluster.

    The job's pod saves a checkpoint and ends, so that its node and its GPU are free.
    """
    _set_suspended(place, name, suspend=True)


@click.command()
@NAME
@at_place
def resume(place: Place, *, name: str) -> None:
    """Resume a suspended job on a cluster from its last checkpoint."""
    _set_suspended(place, name, suspend=False)


def _record_on_cluster(place: Place, name: str, annotation: str, reason: str) -> None:
    """Record a decision about a job on a cluster, where the operator carries out the decision."""
    place.cluster().decide(name, annotation, reason)
    follow = place.caller.command("status", name, "--watch")
    click.echo(f"Decision recorded. Follow progress with: {follow}")


def _set_suspended(place: Place, name: str, *, suspend: bool) -> None:
    if place.runs is not None:
        raise click.UsageError(
            "on this machine, Ctrl-C suspends the jobs of `tunegate run`, and the same command resumes them; "
            "for a job on a cluster, add --namespace"
        )
    job = place.cluster().set_suspended(name, suspend)
    tool = _gitops_tool(job)
    if tool:
        notice(f"{tool} manages this job: also change spec.suspend in Git, or {tool} reverts it")
    follow = place.caller.command("status", name, "--watch")
    click.echo(f"{name} will be {'suspended' if suspend else 'resumed'}. Follow progress with: {follow}")


def _gitops_tool(job: Object) -> str | None:
    """Return the name of the GitOps tool that applies an object, or None."""
    metadata = job["metadata"]
    marks = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
    return next((tool for mark, tool in GITOPS_MARKS.items() if mark in marks), None)
