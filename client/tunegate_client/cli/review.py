"""The command `tunegate review`."""

import shlex
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from tunegate_api.meta import printable
from tunegate_api.v1alpha2.data_status import MAX_REVIEWER
from tunegate_api.v1alpha2.reasons import Phase
from tunegate_client.cli import exit_codes
from tunegate_client.cli.keyboard import Keyboard
from tunegate_client.cli.person import user_name
from tunegate_client.cli.place import NAME, Place, at_place, notice
from tunegate_client.cli.review_session import score_rows
from tunegate_client.cli.review_web import score_in_browser
from tunegate_client.places.caller import Caller
from tunegate_client.places.client import Client, ClientError, status_of
from tunegate_client.places.review import OpenReview, open_review
from tunegate_client.places.review_files import read_scores, write_sample
from tunegate_client.places.review_files.json_lines import score_lines
from tunegate_operator.engine.cluster import Object

if TYPE_CHECKING:
    from tunegate_client.places.kube import KubernetesClient

OPERATOR_SECONDS = 30.0
"""How long to wait until the operator has read the scores."""
POLL_SECONDS = 0.5
_READING = "reading the review sample from the job's volume"
Save = Callable[[Object], None]


@click.command()
@NAME
@click.option("--web", is_flag=True, help="Score in a browser instead of the terminal.")
@click.option(
    "--export",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Only write the sample to a new file: .csv for a spreadsheet, .json for Label Studio.",
)
@click.option(
    "--scores",
    "file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE",
    help="Read the scores from a file: .csv, the .json that Label Studio exports, or JSON Lines such as "
    '{"id": "...", "good": true, "note": "..."}; - for JSON Lines on standard input.',
)
@click.option("--reviewer", default=None, help="Your name.  [default: the name of your login]")
@at_place
def review(
    place: Place, *, name: str, web: bool, export: Path | None, file: Path | None, reviewer: str | None
) -> None:
    """Score a sample of a job's training rows, before the job trains.

    The command shows one row after the other, in the terminal or on a page in a browser. A row is good if
    its answer is what the model should learn to answer. The scores are saved if you quit, and the command
    continues with the next row. Once all rows are scored and you submit them, the job trains, or fails if
    too few rows are good. On this machine, the command then runs the job.

    \b
    Exit codes: 0 the review is passed, 1 failed, 4 rows without a score; on this machine, those of
      `tunegate run` once the job runs
    """
    for number in (signal.SIGTERM, signal.SIGHUP):  # so that the scores are saved
        signal.signal(number, signal.default_int_handler)
    person = (reviewer or user_name("give yours with --reviewer")).strip()[:MAX_REVIEWER]
    if not person or printable(person) != person:
        raise click.BadParameter("must not be blank or have control characters", param_hint="--reviewer")
    ways = [way for way, given in (("--web", web), ("--export", export), ("--scores", file)) if given]
    if len(ways) > 1:
        raise click.UsageError(f"{' and '.join(ways)} exclude each other")

    if export:
        _export(place, name, person, export)
        return

    def score(opened: OpenReview, save: Save) -> tuple[OpenReview, OpenReview]:
        return _score(opened, save, place.caller, web=web, file=file)

    if place.runs is not None:
        from tunegate_client.cli.run import review_run  # noqa: PLC0415 - not needed for a cluster

        opened = open_review(place.client(), name, person)

        def score_new(save: Save) -> Object | None:
            reviewed, _ = score(opened, save)
            return reviewed.config_map() if reviewed != opened else None

        review_run(place.runs, name, score_new, place.caller)
    else:
        notice(_READING)
        client = place.cluster()
        opened = open_review(client, name, person)
        reviewed, saved = score(opened, client.put_config_map)
        raise SystemExit(submit(client, place.caller, opened, reviewed, saved))


def _export(place: Place, name: str, person: str, file: Path) -> None:
    if place.runs is None:
        notice(_READING)
    opened = open_review(place.client(), name, person)
    write_sample(file, opened)
    again = place.caller.command("review", name, "--scores", shlex.quote(str(file)))
    click.echo(f"{file} has {len(opened.rows)} rows. Submit their scores with: {again}")


def submit(
    client: "KubernetesClient", caller: Caller, opened: OpenReview, reviewed: OpenReview, saved: OpenReview
) -> int:
    """Write scores to a cluster, wait until the operator has read them, and print the state of the job.
    Nothing is written if no score is new since the review was ``saved``. Returns the exit code.

    If the scores cannot be written, they are kept in a file in the working directory."""
    job = None
    if reviewed != saved:
        try:
            job = client.get("FineTuneJob", opened.job)
            client.put_config_map(reviewed.config_map())
        except (ClientError, KeyboardInterrupt):
            _keep(reviewed, caller)
            raise
    is_incomplete = reviewed.scored < reviewed.for_people
    if is_incomplete and reviewed != opened:
        click.echo(f"saved: {reviewed.counts_text}")
    status = status_of(_wait_for_operator(client, job) if job else client.get("FineTuneJob", opened.job))
    click.echo(f"{status.phase}: {status.message}")
    if status.phase is Phase.AWAITING_REVIEW and is_incomplete:
        click.echo(f"Continue with: {caller.command('review', opened.job)}")
    if status.phase in (Phase.AWAITING_REVIEW, Phase.FAILED):
        return exit_codes.of_job(status)
    click.echo(f"Follow progress with: {caller.command('status', opened.job, '--watch')}")
    return 0


def _keep(reviewed: OpenReview, caller: Caller) -> None:
    """Write scores that could not be submitted to a new file, and print how to submit them. Print the scores
    if the file cannot be written."""
    path = Path(f"{reviewed.job}-scores-{time.strftime('%Y%m%d-%H%M%S')}.jsonl")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(score_lines(reviewed))
    except OSError as error:
        click.echo(f"{path} cannot be written: {error.strerror}. These are the scores:", err=True)
        click.echo(score_lines(reviewed), nl=False)
        return
    again = ("review", reviewed.job, "--scores", str(path), "--reviewer", shlex.quote(reviewed.reviewer))
    click.echo(f"The scores are in {path}. Submit them with: {caller.command(*again)}", err=True)


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


def _score(
    opened: OpenReview, save: Save, caller: Caller, *, web: bool, file: Path | None
) -> tuple[OpenReview, OpenReview]:
    """Return the review with the scores in ``file``, or with those that the reviewer gives in a browser or in
    the terminal; and the review that ``save`` saved last."""
    if file is not None:
        return read_scores(file, opened), opened
    if web:
        return score_in_browser(opened, save, caller)
    if not sys.stdin.isatty():
        raise click.UsageError("the terminal is not interactive: add --web, or --scores FILE")
    with Keyboard(sys.stdin.fileno()) as keyboard:
        scores = score_rows(opened, Console(), keyboard.read, keyboard.ask)
    return replace(opened, scores=scores), opened
