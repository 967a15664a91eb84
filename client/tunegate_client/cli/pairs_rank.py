"""The command `tunegate pairs rank`."""

import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console

from tunegate_api.meta import summarize
from tunegate_api.preference import MAX_RATER
from tunegate_client.cli import exit_codes
from tunegate_client.cli.keyboard import Keyboard
from tunegate_client.cli.pairs import CANDIDATES, OUTPUT
from tunegate_client.cli.pairs_session import rank_prompts
from tunegate_client.cli.person import user_name
from tunegate_client.pairs.exchange import read_ranked, write_completions
from tunegate_client.pairs.files import read_candidates, read_rankings, write_models
from tunegate_client.pairs.session import RankingSession, rankings_of, start_ranking
from tunegate_client.ui.ranking_page import ranking_questionnaire
from tunegate_client.ui.scoring_server import serve_scoring

_SHOWN_RATERS = 20


@click.command()
@CANDIDATES
@OUTPUT
@click.option("--rater", default=None, help="Your name.  [default: the name of your login]")
@click.option("--web", is_flag=True, help="Rank in a browser instead of the terminal.")
@click.option(
    "--export",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Only write the completions to a new file: .csv for a spreadsheet, .json for Label Studio.",
)
@click.option(
    "--import",
    "imported",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Read the rankings from such a .csv, or the .json that Label Studio exports.",
)
def rank(
    candidates: Path,
    output: Path,
    *,
    rater: str | None,
    web: bool,
    export: Path | None,
    imported: Path | None,
) -> None:
    """Rank the completions of prompts.

    The command shows one prompt after the other with its completions, in the terminal or on a page in a
    browser. Every complete ranking is saved at once in the output file, and the next call continues with
    the first prompt without a ranking. Use one file for each person.

    \b
    Exit codes: 0 all prompts are ranked, 4 prompts without a ranking
    """
    for number in (signal.SIGTERM, signal.SIGHUP):  # so that the terminal is restored
        signal.signal(number, signal.default_int_handler)
    person = (rater or user_name("give yours with --rater")).strip()
    if not 0 < len(person) <= MAX_RATER:
        raise click.BadParameter(f"must have 1 to {MAX_RATER} characters", param_hint="--rater")
    if output.exists() and output.samefile(candidates):
        raise click.BadParameter("is the file with the candidates", param_hint="--output")
    ways = [way for way, given in (("--web", web), ("--export", export), ("--import", imported)) if given]
    if len(ways) > 1:
        raise click.UsageError(f"{' and '.join(ways)} exclude each other")
    known = read_candidates(candidates)
    resume = ["tunegate", "pairs", "rank", str(candidates), "-o", str(output), "--rater", person]
    if export:
        write_completions(export, known, person)
        command = shlex.join([*resume, "--import", str(export)])
        click.echo(f"{export} has {len(known)} prompts. Read their rankings with: {command}")
        return
    earlier = read_rankings([output], known) if output.exists() else []
    if imported:
        found = {(one.rater, one.id): one for one in (*earlier, *read_ranked(imported, known, person))}
        write_models(output, list(found.values()))
        raters = sorted({one.rater for one in found.values()})
        click.echo(f"{output} has {len(found):,} rankings, by {summarize(raters, _SHOWN_RATERS)}")
        return
    session = start_ranking(known, person, earlier)
    others = [ranking for ranking in earlier if ranking.rater != person]

    def save() -> None:
        write_models(output, [*others, *rankings_of(session)])

    if web:
        _rank_in_browser(session, save, shlex.join([*resume, "--web"]))
    else:
        _rank_in_terminal(session, save)
    if session.answers:
        save()
    ranked = len(session.answers)
    click.echo(f"{output}: {person} has ranked {ranked} of {len(known)} prompts")
    if ranked < len(known):
        click.echo(f"Continue with: {shlex.join(resume)}")
        raise SystemExit(exit_codes.SUSPENDED)


def _rank_in_terminal(session: RankingSession, save: Callable[[], None]) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("the terminal is not interactive: add --web, or --import FILE")
    with Keyboard(sys.stdin.fileno()) as keyboard:
        rank_prompts(session, Console(), keyboard.read, keyboard.ask, save)


def _rank_in_browser(session: RankingSession, save: Callable[[], None], resume: str) -> None:
    serve_scoring(
        session,
        ranking_questionnaire(session, resume),
        save,
        lambda address: click.echo(
            f"open {address} in a browser; Ctrl-C ends the server, and keeps the rankings"
        ),
    )
