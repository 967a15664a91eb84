"""Score the rows of a review sample in a browser."""

import threading
from collections.abc import Callable
from dataclasses import replace

import click

from tunegate_client.places.caller import Caller
from tunegate_client.places.client import ClientError
from tunegate_client.places.review import OpenReview
from tunegate_client.places.review_session import scores_of, start_session
from tunegate_client.ui.review_page import review_questionnaire
from tunegate_client.ui.scoring_server import serve_scoring
from tunegate_operator.engine.cluster import ClusterError, Object


def score_in_browser(
    opened: OpenReview, save: Callable[[Object], None], caller: Caller
) -> tuple[OpenReview, OpenReview]:
    """Serve the page until the reviewer submits the scores or quits. Return the review with the scores, and
    the review that was saved last. ``save`` saves the ConfigMap after each score."""
    session, saving, saved = start_session(opened), threading.Lock(), opened

    def save_now() -> None:
        nonlocal saved
        with saving:
            reviewed = replace(opened, scores=scores_of(session))
            if reviewed == saved:  # only a comment on a row without a score is new
                return
            try:
                save(reviewed.config_map())
            except (ClusterError, OSError) as error:
                raise ClientError(str(error)) from error
            saved = reviewed

    serve_scoring(
        session,
        review_questionnaire(opened, caller.command("review", opened.job, "--web")),
        save_now,
        lambda address: click.echo(
            f"open {address} in a browser; Ctrl-C ends the server, and keeps the scores"
        ),
    )
    with saving:  # Ctrl-C does not wait for a write, but the next write must
        return replace(opened, scores=scores_of(session)), saved
