"""The command `tunegate golden add`: make the next version of a golden set."""

import hashlib
import json
from pathlib import Path
from typing import BinaryIO

import click

from tunegate_api.cases.case_lines import CaseSetError, without_repetition
from tunegate_client.cli.golden import GOLDEN, OUTPUT, decode, parse, read_golden, write_new


@click.command()
@GOLDEN
@click.argument("cases", type=click.File("rb"))
@OUTPUT
def add(golden: Path, cases: BinaryIO, output: Path) -> None:
    """Write the next version of a golden set: the cases of GOLDEN, and those of CASES, such as an answer that
    went wrong in production.

    A golden set is immutable, so that pass rates stay comparable. CASES is one case as JSON or several as
    JSON Lines; - reads stdin.
    """
    text, before = read_golden(golden)
    lines = _lines(decode(cases.read(), cases.name), cases.name)
    added = parse("\n".join(lines), cases.name)
    known = {case.id for case in before}
    repeated = [case.id for case in added if case.id in known]
    if repeated:
        raise click.ClickException(
            f"{cases.name}: {golden} has cases with these ids: {', '.join(repeated)}; choose other ids"
        )
    whole = "\n".join([text.rstrip("\n"), *lines, ""])
    total = len(parse(whole, str(output)))
    write_new(output, whole)
    digest = hashlib.sha256(whole.encode()).hexdigest()
    click.echo(f"{output} has {total} cases, {len(added)} more than {golden}.")
    click.echo(f"Put it into a new ConfigMap and a new EvalGate, with golden.sha256: {digest}")


def _lines(text: str, name: str) -> list[str]:
    """Return one line for each case of JSON Lines, of a list, or of a single case over several lines."""
    try:
        value = json.loads(text, object_pairs_hook=without_repetition)
    except CaseSetError as error:
        raise click.ClickException(f"{name}: {error}") from error
    except (ValueError, RecursionError):
        return [line for line in text.split("\n") if line.strip()]
    return [json.dumps(case, ensure_ascii=False) for case in (value if isinstance(value, list) else [value])]
