"""The command `tunegate golden add`: make the next version of a golden set."""

import hashlib
import json
from pathlib import Path
from typing import TextIO

import click

from tunegate_api.judging.golden import GoldenError, parse_golden
from tunegate_operator.cli.golden import GOLDEN, read_golden


@click.command()
@GOLDEN
@click.argument("cases", type=click.File(encoding="utf-8"))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The next version. An existing file is never changed.",
)
def add(golden: Path, cases: TextIO, output: Path) -> None:
    """Write the next version of a golden set: the cases of GOLDEN, and those of CASES, such as an answer that
    went wrong in production.

    A golden set is immutable, so that pass rates stay comparable. CASES is one case as JSON or several as
    JSON Lines; - reads stdin.
    """
    text, before = read_golden(golden)
    lines = _lines(cases.read())
    try:
        added = parse_golden("\n".join(lines))
    except GoldenError as error:
        raise click.ClickException("\n".join(f"{cases.name}: {each}" for each in error.problems)) from error
    known = {case.id for case in before}
    repeated = [case.id for case in added if case.id in known]
    if repeated:
        raise click.ClickException(
            f"{cases.name}: {golden} has cases with these ids: {', '.join(repeated)}; choose other ids"
        )
    whole = "\n".join([text.rstrip("\n"), *lines, ""])
    try:
        total = len(parse_golden(whole))
        with output.open("x", encoding="utf-8", newline="") as file:
            file.write(whole)
    except GoldenError as error:
        raise click.ClickException(str(error)) from error
    except FileExistsError:
        message = f"{output} exists: name a new file, because a version never changes"
        raise click.ClickException(message) from None
    digest = hashlib.sha256(whole.encode()).hexdigest()
    click.echo(f"{output} has {total} cases, {len(added)} more than {golden}.")
    click.echo(f"Put it into a new ConfigMap and a new EvalGate, with golden.sha256: {digest}")


def _lines(text: str) -> list[str]:
    """Return one line for each case. A single case may be written over several lines."""
    try:
        return [json.dumps(json.loads(text), ensure_ascii=False)]
    except ValueError:
        return [line for line in text.split("\n") if line.strip()]
