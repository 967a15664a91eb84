"""The command `tunegate golden import`: convert evaluation cases of other tools to a golden set."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click
import yaml

from tunegate_api.meta import summarize
from tunegate_api.verdict.outcomes import MAX_CASES
from tunegate_client.cli.golden import OUTPUT, existing, parse, write_new
from tunegate_client.imports.imported import Imported, NotCarriedError, NotImported
from tunegate_client.imports.inspect_ai import SCORERS, import_inspect
from tunegate_client.imports.lm_eval import import_lm_eval
from tunegate_client.imports.openai_evals import EVALS, import_evals
from tunegate_client.imports.openai_graders import import_openai
from tunegate_client.imports.promptfoo import import_promptfoo

_NAMED = 10


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@OUTPUT
@click.option(
    "--from",
    "source",
    type=click.Choice(["promptfoo", "openai", "openai-evals", "inspect", "lm-eval"]),
    default="promptfoo",
    show_default=True,
    help="The format of FILE.",
)
@click.option(
    "--data",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The rows that graders of OpenAI judge, as JSON Lines. Only with --from openai.",
)
@click.option(
    "--scorer",
    metavar="NAME",
    help=f"What judges the samples, with its default arguments: {', '.join(SCORERS)} of inspect_ai, or "
    f"{', '.join(EVALS)} of openai/evals. Only with --from inspect and openai-evals.",
)
@click.option(
    "--filter",
    "filter_",
    metavar="NAME",
    help="The filter whose results count, if a task of lm-eval has several. Only with --from lm-eval.",
)
@click.option(
    "--drop-assertions",
    is_flag=True,
    help="Also write cases of which some assertions cannot be carried over, without these assertions. By "
    "default, such a case is left out.",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write what was not carried over as JSON, with the ids of all cases.",
)
def import_(
    *,
    file: Path,
    output: Path,
    source: str,
    data: Path | None,
    scorer: str | None,
    filter_: str | None,
    drop_assertions: bool,
    report: Path | None,
) -> None:
    """Convert evaluation cases of another tool to a golden set, a JSON Lines file.

    A case is carried over only if each output passes it here exactly if it passes there. The other cases are
    left out and reported, with the reasons.

    \b
      promptfoo    a configuration (YAML or JSON) with prompts, tests and deterministic assertions
      openai       testing criteria or a grader, for the rows of --data
      openai-evals samples of openai/evals (JSON Lines) with input and ideal
      inspect      samples of inspect_ai (JSON, JSON Lines or CSV) with input and target
      lm-eval      samples_TASK_DATE.jsonl of --log_samples, beside results_DATE.json

    \b
    Exit codes: 0 cases were written, 1 nothing could be carried over, 2 wrong options
    """
    _check_options(source, data, scorer, filter_)
    if output.exists():
        raise existing(output)
    if report and report.resolve() == output.resolve():
        raise click.UsageError("--report and --output name the same file")
    with _errors_name(file):
        if data:
            found = import_openai(file, data, incomplete=drop_assertions)
        elif scorer:
            found = (import_inspect if source == "inspect" else import_evals)(file, scorer)
        elif source == "lm-eval":
            found = import_lm_eval(file, filter_, incomplete=drop_assertions)
        else:
            found = import_promptfoo(file, incomplete=drop_assertions)
    if report:
        _write_report(report, found)
    for problem in found.problems:
        click.echo("\n".join(_lines(problem)))
    if not found.cases:
        message = f"{file}: none of {found.found} cases could be carried over, so no golden set was written"
        raise click.ClickException(message)
    if len(found.cases) > MAX_CASES:
        raise click.ClickException(
            f"{file} has {len(found.cases)} cases, but a golden set has at most {MAX_CASES}: divide the file"
        )
    parse(found.text, str(output))
    write_new(output, found.text)
    click.echo(f"{output} has {len(found.cases)} of {found.found} cases of {file}.")
    click.echo(f"Find weak cases with: tunegate golden lint {output}")


def _check_options(source: str, data: Path | None, scorer: str | None, filter_: str | None) -> None:
    """Raise UsageError for options that the format lacks, or does not have."""
    for option, given, needed_by in (
        ("--data", data, {"openai"}),
        ("--scorer", scorer, {"inspect", "openai-evals"}),
    ):
        if (given is None) == (source in needed_by):
            formats = " and ".join(f"--from {each}" for each in sorted(needed_by))
            raise click.UsageError(f"{option} is needed for {formats}, and for no other format")
    if source == "inspect" and scorer not in SCORERS:
        raise click.UsageError(f"--scorer {scorer} of inspect_ai is none of {', '.join(SCORERS)}")
    if filter_ and source != "lm-eval":
        raise click.UsageError("--filter is only for --from lm-eval")


@contextmanager
def _errors_name(file: Path) -> Iterator[None]:
    """Raise ClickException for errors of the file."""
    try:
        yield
    except NotCarriedError as error:
        raise click.ClickException(f"{file}: not carried over: {error.kind}: {error.reason}") from error
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{file} is not UTF-8 at byte {error.start}: save it as UTF-8") from error
    except UnicodeEncodeError as error:
        message = f"{file} contains an unpaired surrogate, which is not a character, in {error.object!a}"
        raise click.ClickException(message) from error
    except OSError as error:
        raise click.ClickException(f"{file} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise click.ClickException(f"{file} is not valid: {' '.join(str(error).split())}") from error


def _lines(problem: NotImported) -> list[str]:
    times = f"{problem.count} times" if problem.count > 1 else "once"
    lines = [f"Not carried over {times}: {problem.kind}: {problem.reason}"]
    if problem.left_out:
        lines.append(f"  cases left out: {summarize(problem.left_out, _NAMED)}")
    if problem.incomplete:
        lines.append(f"  cases written without it: {summarize(problem.incomplete, _NAMED)}")
    return lines


def _write_report(path: Path, found: Imported) -> None:
    content = {
        "cases": found.found,
        "written": [case["id"] for case in found.cases],
        "notCarriedOver": [
            {
                "kind": each["kind"],
                "reason": each["reason"],
                "count": each["count"],
                "casesLeftOut": each["left_out"],
                "casesWrittenWithoutIt": each["incomplete"],
            }
            for each in map(asdict, found.problems)
        ],
    }
    try:
        path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from error
