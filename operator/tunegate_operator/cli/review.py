"""The command `tunegate review`."""

import getpass
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from tunegate_api.judging.review import Score
from tunegate_api.v1alpha1.data_status import MAX_REVIEWER
from tunegate_api.v1alpha1.finetunejob_status import Phase
from tunegate_operator.cli import exit_codes
from tunegate_operator.cli.keyboard import Keyboard
from tunegate_operator.cli.place import NAME, Place, at_place, notice
from tunegate_operator.cli.review_session import score_rows
from tunegate_operator.clients.caller import Caller
from tunegate_operator.clients.client import Client, ClientError, status_of
from tunegate_operator.clients.review import Review, open_review, parse_score_lines
from tunegate_operator.engine.cluster import Object

if TYPE_CHECKING:
    from tunegate_operator.clients.kube import KubernetesClient

OPERATOR_SECONDS = 30.0
"""How long to wait until the operator has read the scores."""
POLL_SECONDS = 0.5


@click.command()
@NAME
@click.option(
    "--scores",
    "file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help='JSON Lines with scores, instead of keys: {"id": "...", "good": true, "note": "..."}; - for '
    "standard input.",
)
@click.option("--reviewer", default=None, help="Your name.  [default: the name of your login]")
@at_place
def review(place: Place, *, name: str, file: Path | None, reviewer: str | None) -> None:
    """Score a sample of a job's training rows, before the job trains.

    The command shows one row after the other. A row is good if its answer is what the model should learn to
    answer. The scores are saved if you quit, and the command continues with the next row. Once all rows are
    scored and you submit them, the job trains, or fails if too few rows are good. On this machine, the
    command then runs the job.

    \b
    Exit codes: 0 the review is passed, 1 failed, 4 rows without a score; on this machine, those of
      `tunegate run` once the job runs
    """
    for number in (signal.SIGTERM, signal.SIGHUP):  # so that the scores are saved
        signal.signal(number, signal.default_int_handler)
    person = (reviewer or getpass.getuser()).strip()[:MAX_REVIEWER]
    if not person:
        raise click.BadParameter("must not be blank", param_hint="--reviewer")
    if place.runs is not None:
        from tunegate_operator.cli.run import review_run  # noqa: PLC0415 - not needed for a cluster

        opened = open_review(place.client(), name, person)

        def score() -> Object | None:
            scores = _scores(opened, file)
            return opened.config_map(scores) if scores != opened.scores else None

        review_run(place.runs, name, score, place.caller)
    else:
        notice("reading the review sample from the job's volume")
        client = place.cluster()
        opened = open_review(client, name, person)
        raise SystemExit(submit(client, place.caller, opened, _scores(opened, file)))


def submit(client: "KubernetesClient", caller: Caller, opened: Review, scores: dict[str, Score]) -> int:
    """Write the scores of a reviewer to a cluster, wait until the operator has read them, and print the state
    of the job. Nothing is written if no score is new. Returns the exit code."""
    job = client.get("FineTuneJob", opened.job)
    if scores != opened.scores:
        client.put_config_map(opened.config_map(scores))
        if len(scores) < len(opened.rows):
            again = caller.command("review", opened.job)
            click.echo(f"saved: {len(scores)} of {len(opened.rows)} rows are scored. Continue with: {again}")
        job = _wait_for_operator(client, job)
    status = status_of(job)
    click.echo(f"{status.phase}: {status.message}")
    if status.phase in (Phase.AWAITING_REVIEW, Phase.FAILED):
        return exit_codes.of_job(status)
    click.echo(f"Follow progress with: {caller.command('status', opened.job, '--watch')}")
    return 0


def _wait_for_operator(client: Client, before: Object) -> Object:
    """Return the job once its status has changed, because the operator has read the scores; the present job
    if it does not change soon."""
    deadline = time.monotonic() + OPERATOR_SECONDS
    while True:
        job = client.get("FineTuneJob", before["metadata"]["name"])
        if _reviewed_part(job) != _reviewed_part(before) or time.monotonic() > deadline:
            return job
        time.sleep(POLL_SECONDS)


def _reviewed_part(job: Object) -> tuple[object, ...]:
    """Return the part of a job that changes when the operator reads scores."""
    status = job.get("status", {})
    return job["metadata"]["uid"], status.get("phase"), status.get("data"), status.get("message")


def _scores(opened: Review, file: Path | None) -> dict[str, Score]:
    """Return the scores of the reviewer: the earlier ones with those in ``file``, or with those that the
    reviewer gives in the terminal."""
    if file is not None:
        where = "standard input" if file == Path("-") else str(file)
        try:
            with click.open_file(str(file), encoding="utf-8") as lines:
                given = parse_score_lines(lines.read(), opened.rows, where)
        except (OSError, UnicodeDecodeError) as error:
            raise ClientError(f"{where} cannot be read: {error}") from error
        return {**opened.scores, **given}
    if not sys.stdin.isatty():
        raise click.UsageError("the terminal is not interactive: give the scores with --scores FILE")
    with Keyboard(sys.stdin.fileno()) as keyboard:
        return score_rows(opened.rows, opened.scores, Console(), keyboard.read, keyboard.ask)
