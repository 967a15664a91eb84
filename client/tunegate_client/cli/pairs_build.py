"""The command `tunegate pairs build`."""

from fractions import Fraction
from pathlib import Path

import click

from tunegate_api.meta import summarize
from tunegate_client.cli.pairs import CANDIDATES, OUTPUT
from tunegate_client.pairs.agreement import PairAgreement, agreements
from tunegate_client.pairs.files import read_candidates, read_rankings, write_lines
from tunegate_client.pairs.rules import RULES, build_pairs
from tunegate_client.places.client import ClientError

BEST, ALL = "best-vs-worst", "all"
_SHOWN_RATERS = 20


@click.command()
@CANDIDATES
@click.argument(
    "rankings", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@OUTPUT
@click.option(
    "--pairs-per-prompt",
    type=click.Choice([BEST, ALL]),
    default=BEST,
    show_default=True,
    help="One pair, the best and the worst completion, or all pairs.",
)
@click.option(
    "--min-agreement",
    type=click.FloatRange(0.5, 1),
    default=0.5,
    show_default=True,
    help="Minimum share of raters who prefer the chosen completion. It is always more than half of them.",
)
@click.option(
    "--min-raters",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Minimum number of raters who ranked both completions.",
)
def build(
    candidates: Path,
    rankings: tuple[Path, ...],
    output: Path,
    *,
    pairs_per_prompt: str,
    min_agreement: float,
    min_raters: int,
) -> None:
    """Turn rankings into preference pairs.

    The output has a prompt, a chosen and a rejected completion in each line, and can be used as a data source
    with use: Preference. The command prints how much the raters agree, and how many pairs each rule dropped.
    """
    if output.exists() and any(output.samefile(path) for path in (candidates, *rankings)):
        raise click.BadParameter("is also an input file: name another file", param_hint="--output")
    known = read_candidates(candidates)
    given = read_rankings(rankings, known)
    built = build_pairs(
        known.values(),
        given,
        min_agreement=Fraction(str(min_agreement)),
        min_raters=min_raters,
        every_pair=pairs_per_prompt == ALL,
    )
    raters = sorted({ranking.rater for ranking in given})
    ranked = {ranking.id for ranking in given}
    click.echo(
        f"{len(ranked)} of {len(known)} prompts are ranked, by {summarize(raters, _SHOWN_RATERS) or 'nobody'}"
    )
    for line in _agreement_lines(agreements(given)):
        click.echo(line)
    for rule, reason in RULES.items():
        if built.dropped[rule]:
            click.echo(f"{built.dropped[rule]:6,} dropped: {rule} ({reason})")
    if not built.pairs:
        raise ClientError(f"there are no pairs, so {output} is not written")
    write_lines(output, [pair.line() for pair in built.pairs])
    prompts = len({pair.candidates.id for pair in built.pairs})
    click.echo(f"{output} has {len(built.pairs):,} pairs from {prompts:,} of {len(ranked):,} ranked prompts")


def _agreement_lines(found: list[PairAgreement]) -> list[str]:
    """Return the mean agreement, then that of each two raters."""
    if not found:
        return ["agreement is unknown: no two raters ranked the same completions"]
    same, compared = sum(one.same for one in found), sum(one.compared for one in found)
    taus = [one.tau for one in found if one.tau is not None]
    mean = sum(taus) / len(taus) if taus else None
    lines = [_agreement_line("agreement", mean, same, compared)]
    if len(found) > 1:
        lines += [
            _agreement_line(f"  {' and '.join(one.raters)}", one.tau, one.same, one.compared)
            for one in found[:_SHOWN_RATERS]
        ]
    return lines


def _agreement_line(who: str, tau: float | None, same: int, compared: int) -> str:
    shown = "is not defined" if tau is None else f"{tau:.2f}"
    return f"{who}: Kendall's tau-b {shown}, same opinion on {same:,} of {compared:,} pairs"
