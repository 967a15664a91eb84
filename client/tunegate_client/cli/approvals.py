"""Commands that decide about the final verdict of a job: approve, override, reject."""

import click

from tunegate_client.cli.decisions import REASON
from tunegate_client.cli.place import NAME, Place, at_place


@click.command()
@NAME
@REASON
@at_place
def approve(place: Place, *, name: str, reason: str) -> None:
    """Approve a model that passed its gates, so that it is published.

    Your name, the time and the reason are recorded in the job's status and in the published evidence. On a
    cluster, you need the permission `approve` for the job.
    """
    _decide(place, name, "approve", reason)


@click.command()
@NAME
@REASON
@at_place
def override(place: Place, *, name: str, reason: str) -> None:
    """Publish a model that did not pass its gates.

    Your name, the time and the reason are recorded in the job's status, in the published evidence and on the
    model card. On a cluster, you need the permission `override` for the job.
    """
    _decide(place, name, "override", reason)


@click.command()
@NAME
@REASON
@at_place
def reject(place: Place, *, name: str, reason: str) -> None:
    """Reject a model that waits for an approval or an override. Its job fails, and nothing is published.

    On a cluster, you need the permission `approve` or `override` for the job.
    """
    _decide(place, name, "reject", reason)


def _decide(place: Place, name: str, action: str, reason: str) -> None:
    if place.runs is not None:
        from tunegate_client.cli.run import decide_verdict_run  # noqa: PLC0415 - not needed for a cluster

        place.client().get("FineTuneJob", name)
        decide_verdict_run(place.runs, name, action, reason, place.caller)
        return
    place.cluster().decide_verdict(name, action, reason)
    follow = place.caller.command("status", name, "--watch")
    click.echo(f"Decision recorded. Follow progress with: {follow}")
