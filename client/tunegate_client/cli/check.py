"""The command `tunegate check`: check data without a manifest."""

import base64
import hashlib
from pathlib import Path
from typing import Any, get_args

import click
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.text import Text

from tunegate_api import API_VERSION
from tunegate_api.contract.forecast import CheckedData
from tunegate_api.file_uri import FILE, file_path
from tunegate_api.v1alpha2.data import Goal
from tunegate_client.cli import exit_codes
from tunegate_client.cli.data_job import COLUMNS, FIELDS, REVISION, data_job, refuse_problems
from tunegate_client.cli.output_file import prepare
from tunegate_client.laptop.plan import ForecastError
from tunegate_client.laptop.plan import check as check_data

_STYLES = {"Refused": "bold red", "Warned": "yellow", "Passed": "green"}
_MARKS = {"Refused": "✗", "Warned": "!", "Passed": "✓"}


@click.command()
@click.argument("data")
@click.option("--preference", help="Preference pairs: prompt, chosen and rejected completion.")
@click.option(
    "--production",
    help="A sample of production inputs. --set sources.production.columns.prompt=FIELD names its field.",
)
@click.option(
    "--golden",
    "golden_sets",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A golden set whose cases must not be in the data. May be repeated.",
)
@click.option(
    "--goal",
    type=click.Choice(get_args(Goal)),
    help="What the data is for. Without it, the number of rows is not checked.",
)
@click.option("--model", help="The model to train. Without it, lengths are measured in words.")
@REVISION
@COLUMNS
@FIELDS
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the rows with faults to this JSON file.",
)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def check(
    data: str,
    *,
    preference: str | None,
    production: str | None,
    golden_sets: tuple[Path, ...],
    goal: str | None,
    model: str | None,
    revision: str | None,
    columns: tuple[str, ...],
    fields: tuple[str, ...],
    report: Path | None,
    output: str,
) -> None:
    """Check training data, without a manifest and without a GPU.

    DATA, and the other files, are a path or an address, such as hf://datasets/ORG/NAME/FILE. The checks are
    those that a job makes before it requests a GPU.

    \b
    Exit codes: 0 a job would accept the data, 1 it would refuse the data, 2 wrong options
    """
    job = data_job(
        data,
        preference,
        production,
        goal=goal,
        model=model,
        revision=revision,
        columns=columns,
        fields=fields,
    )
    objects = [obj for i, path in enumerate(golden_sets, start=1) for obj in _gate(f"golden-{i}", path)]
    job["spec"]["gates"] = [{"name": f"golden-{i}"} for i, _ in enumerate(golden_sets or ("",), start=1)]
    refuse_problems(job)
    given = [one for one in (data, preference, production) if one]
    sources = [file_path(one) if one.startswith(FILE) else Path(one) for one in given]
    prepare("--report", report, [*sources, *golden_sets])
    try:
        found = check_data(
            job,
            objects,
            Path.cwd(),
            Path("runs"),
            any_model=model is None,
            any_goal=goal is None,
            report=report,
        )
    except ForecastError as error:
        raise click.ClickException(str(error)) from error
    if output == "json":
        click.echo(found.model_dump_json(by_alias=True, exclude_none=True, indent=2))
    else:
        Console().print(check_view(data, found))
    raise SystemExit(exit_codes.FAILED if found.failure else 0)


def _gate(name: str, path: Path) -> list[dict[str, Any]]:
    """Return the manifests of a gate and of the ConfigMap with its golden set."""
    content = path.read_bytes()
    golden = {
        "name": "golden",
        "source": {"configMap": name, "key": "golden.jsonl"},
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    gate = {"apiVersion": API_VERSION, "kind": "EvalGate", "metadata": {"name": name}}
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
    return [
        {**gate, "spec": {"sets": [golden]}},
        {**config_map, "binaryData": {"golden.jsonl": base64.b64encode(content).decode()}},
    ]


def check_view(data: str, checked: CheckedData) -> RenderableType:
    """Render the result of the checks on a terminal."""
    sections: list[RenderableType] = []
    if checked.rows is not None:
        shape = f", {checked.shape}" if checked.shape else ""
        sections.append(Text(f"{checked.rows:,} rows{shape}", style="dim"))
    for finding in checked.findings:
        mark = f"{_MARKS.get(finding.result, '!')} {finding.check}: "
        sections.append(
            Text(mark, style=_STYLES.get(finding.result, "")) + Text(finding.message, style="not bold")
        )
        if finding.remedy and finding.result != "Passed":
            sections.append(Text(f"  {finding.remedy}", style="yellow"))
    found = {finding.check for finding in checked.findings}
    passed = [one.name for one in checked.results if one.result == "Passed" and one.name not in found]
    if passed:
        sections.append(Text(f"✓ {', '.join(passed)}", style="green"))
    if checked.failure and not found:
        sections += [
            Text(f"{checked.failure.reason}: {checked.failure.message}", style="bold red"),
            Text(checked.failure.hint, style="yellow"),
        ]
    refused = checked.failure is not None
    sections.append(Text("a job would refuse this data" if refused else "a job would accept this data"))
    return Panel(
        Group(*sections),
        title=f"[bold]{escape(data)}",
        border_style="red" if refused else "green",
        padding=(0, 1),
    )
