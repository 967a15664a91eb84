"""The command `tunegate golden lint`: find weak cases of a golden set."""

from pathlib import Path

import click
from rich.console import Console, Group, RenderableType
from rich.text import Text

from tunegate_api.cases.golden_findings import LintedGolden
from tunegate_api.contract.bar import final_bar
from tunegate_api.v1alpha2.case_source import CaseSource
from tunegate_api.v1alpha2.sets import GateSet
from tunegate_api.verdict.power import power_text
from tunegate_client.cli import exit_codes
from tunegate_client.cli.golden import GOLDEN, read_golden
from tunegate_client.laptop.plan import ForecastError, lint_golden

_MARKS = {"Error": ("✗", "bold red"), "Warning": ("!", "yellow")}


@click.command()
@GOLDEN
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def lint(golden: Path, output: str) -> None:
    """Find weak cases of a golden set: cases that no output can pass, cases that almost every output passes,
    repeated prompts, and kinds of cases that are missing.

    \b
    Exit codes: 0 no case is unpassable, 1 a case is unpassable or invalid, 2 wrong options
    """
    text, _ = read_golden(golden)
    try:
        found = lint_golden(text)
    except ForecastError as error:
        raise click.ClickException(str(error)) from error
    if output == "json":
        click.echo(found.model_dump_json(by_alias=True, indent=2))
    else:
        Console(soft_wrap=True).print(lint_view(found))
    has_error = any(finding.severity == "Error" for finding in found.findings)
    raise SystemExit(exit_codes.FAILED if has_error else 0)


def lint_view(found: LintedGolden) -> RenderableType:
    """Render the findings, and how often the set misses a drop, on a terminal."""
    lines: list[RenderableType] = []
    for finding in found.findings:
        mark, style = _MARKS[finding.severity]
        lines.append(Text(f"{mark} {finding.check}: ", style=style) + Text(finding.message, style="not bold"))
        lines.append(Text(f"  {finding.remedy}", style="dim"))
    if found.untried:
        message = f"{len(found.untried)} cases with tool calls or a scorer of your own were not tried."
        lines.append(Text(message, style="dim"))
    power = power_text(found.cases, final_bar(GateSet(name="golden", source=CaseSource())), found.groups)
    lines.append(Text(f"{found.cases} cases; by default, {power}."))
    return Group(*lines)
