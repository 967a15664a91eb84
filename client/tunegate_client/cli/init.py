"""The command `tunegate init`: write the manifests of a new project from its data."""

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import cast, get_args

import click
from rich.console import Console

from tunegate_api.contract.forecast import CheckedData, DescribedData
from tunegate_api.file_uri import file_uri
from tunegate_api.meta import printable, summarize
from tunegate_api.v1alpha2.data import Columns, Goal
from tunegate_client.cli.check import check_view
from tunegate_client.cli.data_job import COLUMNS, REVISION, data_job, refuse_problems
from tunegate_client.cli.starter import Starter
from tunegate_client.cli.starter_gate import CASES, gate_text
from tunegate_client.cli.starter_job import METRICS, job_text
from tunegate_client.laptop.manifests import RefusedError, refuse_reserved
from tunegate_client.laptop.plan import ForecastError
from tunegate_client.laptop.plan import check as check_data
from tunegate_operator.engine.cluster import Object

JOB_FILE, GATE_FILE = "finetunejob.yaml", "evalgate.yaml"
_NAME_LENGTH = 40
_SHOWN = 10


@click.command()
@click.option(
    "--data", required=True, help="The training data: a path or an address, as in `tunegate check`."
)
@click.option(
    "--model", required=True, help="The model to tune: a path or an address, such as hf://ORG/NAME."
)
@click.option("--goal", required=True, type=click.Choice(get_args(Goal)), help="What the tuning is for.")
@REVISION
@COLUMNS
@click.option("--name", help="Name of the job and of its gate. Defaults to the name of the data.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Folder for the manifests. Defaults to the name of the job.",
)
@click.option(
    "--accelerator",
    type=click.Choice(["GPU", "CPU"]),
    default="GPU",
    show_default=True,
    help="What the job trains on.",
)
@click.option("--force", is_flag=True, help="Replace manifests that exist.")
def init(
    data: str,
    *,
    model: str,
    goal: str,
    revision: str | None,
    columns: tuple[str, ...],
    name: str | None,
    output: Path | None,
    accelerator: str,
    force: bool,
) -> None:
    """Write the manifests of a new job from your data.

    \b
    Checks the data, and writes two files:
      FOLDER/finetunejob.yaml  the job, with task metrics that fit the answers in the data:
                               F1 for labels, JSONSchema for JSON, RougeL for texts
      FOLDER/evalgate.yaml     the gate, with 40 golden cases to fill in

    Fields with other names than prompt and completion are found by usual names, such as question and answer;
    --column sets them. The model is not read. A golden case is refused until it is filled in.

    \b
    Exit codes: 0 files written, also if a job would refuse the data, 1 the data cannot be read,
      2 wrong options, or a file exists
    """
    name = name or _name_of(data)
    folder = output or Path(name)
    job = data_job(
        data, goal=goal, model=model, revision=revision, columns=columns, fields=("quality.sample=8%",)
    )
    job = job | {"metadata": {"name": name}, "spec": job["spec"] | {"gates": [{"name": name}]}}
    _refuse_options(job)
    _refuse_existing(folder, force=force)
    try:
        found = check_data(job, [], Path.cwd(), Path("runs"), any_model=True, describe=True)
    except ForecastError as error:
        raise click.ClickException(str(error)) from error
    Console().print(check_view(data, found))
    if found.described is None:
        raise click.ClickException(_unreadable(found))
    starter = Starter(
        name=name,
        goal=cast("Goal", goal),
        model=_address_from(folder, model),
        revision=revision,
        data=_address_from(folder, data),
        columns=found.guessed_columns
        or Columns.model_validate(job["spec"]["data"]["sources"][0].get("columns", {})),
        accelerator=accelerator,
        described=found.described,
    )
    _write(folder, {JOB_FILE: job_text(starter), GATE_FILE: gate_text(starter)})
    _print_result(folder, found, found.described)


def _name_of(data: str) -> str:
    """Return a name for a job, made from the last part of a path or an address."""
    last = data.partition("?")[0].rstrip("/").rpartition("/")[2]
    words = re.findall(r"[a-z0-9]+", last.partition(".")[0].casefold())
    return "-".join(words)[:_NAME_LENGTH].strip("-") or "job"


def _refuse_options(job: Object) -> None:
    """Raise UsageError for a name or an address that a job cannot have."""
    try:
        refuse_reserved([job["metadata"]["name"]])
    except RefusedError as error:
        refuse_problems(job, [str(error)])
    refuse_problems(job)


def _refuse_existing(folder: Path, *, force: bool) -> None:
    if folder.exists() and not folder.is_dir():  # the data, if the name of its file has no suffix
        raise click.UsageError(f"{folder} is a file: choose a folder for the manifests with --output")
    existing = [str(path) for path in (folder / JOB_FILE, folder / GATE_FILE) if path.exists()]
    if existing and not force:
        verb = "exists" if len(existing) == 1 else "exist"
        raise click.UsageError(
            f"{' and '.join(existing)} {verb}: choose another folder with --output, or replace with --force"
        )


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files into a folder. Raises ClickException."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        path = error.filename or folder
        raise click.ClickException(
            f"{path} cannot be written: {error.strerror}; choose another folder with --output"
        ) from error


def _address_from(folder: Path, given: str) -> str:
    """Return the URI of a path in a manifest in ``folder``. A relative path stays relative, so that the
    project can be moved. A URI is returned unchanged."""
    if "://" in given:
        return given
    path = Path(given)
    return file_uri(path if path.is_absolute() else os.path.relpath(path.resolve(), folder.resolve()))


def _unreadable(found: CheckedData) -> str:
    if not found.fields or found.shape:
        return "nothing was written: there are no rows that can be used"
    return (
        "nothing was written: name the fields with the prompt and the completion, as in --column "
        f"prompt=FIELD --column completion=FIELD. The first row has: {printable(', '.join(found.fields))}"
    )


def _print_result(folder: Path, found: CheckedData, described: DescribedData) -> None:
    columns = found.guessed_columns
    if columns:
        named = printable(f"prompt: {columns.prompt}, completion: {columns.completion}")
        click.echo(f"columns   {named} (guessed by their names; change them with --column)")
    click.echo(f"answers   {_answers(described)}; task metric {METRICS[described.answers]}")
    click.echo(f"written   {folder / JOB_FILE}, {folder / GATE_FILE}")
    quoted = shlex.quote(str(folder))
    click.echo(f"""
Next:
  1. Fill in the {CASES} golden cases in {folder / GATE_FILE}, and remove the todo of each.
  2. tunegate validate {quoted}    lists the cases that are left
  3. tunegate plan {quoted}        estimates rows, steps and memory
  4. tunegate run {quoted}         trains, judges and publishes""")


def _answers(described: DescribedData) -> str:
    """Return what the answers are, for people."""
    if described.answers == "Labels":
        labels = [f"{one.label} {one.rows:,}" for one in described.labels]
        return f"{len(labels)} labels: {printable(summarize(labels, _SHOWN))}"
    if described.answers == "JSON" and described.not_json:
        return f"JSON, but {described.not_json:,} of {described.rows:,} are not, which the job refuses"
    kinds = {"JSON": "JSON", "ToolCalls": "tool calls", "ShortText": "short texts", "Text": "texts"}
    return kinds[described.answers]
