"""The command `tunegate gate run`: judge a model by the gates of manifests, without a job."""

import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from tunegate_api.contract.gate_run import GateRun, GateRunRequest
from tunegate_api.meta import summarize
from tunegate_api.v1alpha2 import EvalGate
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_api.v1alpha2.evaluation import EvaluationSettings
from tunegate_api.validation.problems import find_problems
from tunegate_client.cli import exit_codes
from tunegate_client.cli.data_job import address_of, data_job
from tunegate_client.cli.gate_report import ModelResult, model_result
from tunegate_client.cli.gate_view import gate_view
from tunegate_client.cli.junit import junit_of_error, junit_text
from tunegate_client.cli.manifests import PATHS, print_diagnostics
from tunegate_client.cli.output_file import prepare
from tunegate_client.cli.place import RUNS
from tunegate_client.laptop.manifests import RefusedError, in_laptop_namespace, read_project
from tunegate_client.laptop.plan import ForecastError, run_gates
from tunegate_operator.engine.cluster import Object

_MOST_GATES = 8
"""Maximum number of gates of a job, and so of a run."""
_ANY_DATA = "file:///any-data"
_CLAIM = "tuning"
"""The claim that keeps downloaded models, as that of `tunegate pairs sample`."""


class NotMeasuredError(click.ClickException):
    """The model could not be judged."""

    exit_code = exit_codes.NOT_MEASURED


@click.command()
@PATHS
@click.option(
    "--model", required=True, help="The model or adapter to judge: a path, or an address such as hf://…"
)
@click.option("--revision", help="The commit, tag or branch of an hf:// model, which needs one.")
@click.option(
    "--base",
    help="The base model: a path or an address. Required for an adapter, and for a gate with the baseline "
    "BaseModel or a safety set.",
)
@click.option("--base-revision", help="The commit, tag or branch of an hf:// base model, which needs one.")
@click.option(
    "--published",
    help="The folder or address to which versions are published. The newest one is the baseline "
    "LastPublished. Without it, this baseline is skipped.",
)
@click.option(
    "--gate", "names", multiple=True, help="A gate in the manifests. May be repeated.  [default: all]"
)
@click.option(
    "--quantization",
    type=click.Choice(["NF4"]),
    help="Load the base model of an adapter in 4 bits, as in training with QLoRA.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1, 4096),
    default=EvaluationSettings().batch_size,
    show_default=True,
    help="Number of prompts in a batch, as evaluation.batchSize of a job.",
)
@click.option(
    "--junit", type=click.Path(dir_okay=False, path_type=Path), help="Write JUnit XML to this file."
)
@RUNS
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def run(
    paths: tuple[Path, ...],
    *,
    model: str,
    revision: str | None,
    base: str | None,
    base_revision: str | None,
    published: str | None,
    names: tuple[str, ...],
    quantization: Any,
    batch_size: int,
    junit: Path | None,
    runs: Path,
    output: str,
) -> None:
    """Judge a model by EvalGates, without a job. For CI pipelines.

    The files or folders have the EvalGates and the ConfigMaps that they read. The model and its base model
    are evaluated on this machine, on its GPU if there is one, as by the final gate of a job, and the same
    rules give the verdict. Downloaded models are kept in the folder RUNS.

    \b
      tunegate gate run gates/ --model ./model --base ./base --junit gate.xml

    \b
    Exit codes: 0 all gates passed, 1 a gate failed, 5 a gate is inconclusive or the model could not be
      measured, 2 wrong options or mistakes in manifests, 130 interrupted. Gates in a dry run do not count
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the process of the model ends, too
    if print_diagnostics(paths):
        raise SystemExit(exit_codes.USAGE)
    objects, gates = _read(paths, names)
    _refuse_missing_base(gates, model, base)
    models = {"model": _source(model, revision), "base": _source(base, base_revision)}
    jobs = [_job(option, source, list(gates), published) for option, source in models.items() if source]
    jobs[-1]["spec"]["evaluation"] = {"batchSize": batch_size}
    wanted = GateRunRequest.model_validate({**models, "quantization": quantization})
    folder = paths[0] if paths[0].is_dir() else paths[0].parent
    prepare("--junit", junit, paths)
    try:
        with Console(stderr=True).status("starting") as status:
            found = run_gates(wanted, jobs[-1], objects, folder, runs, show=status.update)
    except (ForecastError, OSError) as error:
        _write(junit, junit_of_error(list(gates), str(error)))
        raise NotMeasuredError(str(error)) from error
    except KeyboardInterrupt:
        raise SystemExit(exit_codes.INTERRUPTED) from None
    result = model_result(found, _notes(gates, found))
    _write(junit, junit_text(result))
    _show(result, output)
    raise SystemExit(exit_codes.of_verdict(result.verdict))


def _read(paths: Sequence[Path], names: Sequence[str]) -> tuple[list[Object], dict[str, EvalGateSpec]]:
    """Return the objects in the manifests, and the gates that the options choose. Raises UsageError."""
    try:
        found = in_laptop_namespace([obj for path in paths for obj in read_project(path).objects])
    except RefusedError as error:
        raise click.UsageError(str(error)) from error
    objects = [obj for obj in found if obj["kind"] != "FineTuneJob"]
    gates = {
        obj["metadata"]["name"]: EvalGate.model_validate(obj).spec
        for obj in objects
        if obj["kind"] == "EvalGate"
    }
    if not gates:
        raise click.UsageError("no EvalGate in these manifests")
    for name in names:
        if name not in gates:
            raise click.UsageError(
                f"no EvalGate {name} in these manifests, only {summarize(list(gates), 20)}"
            )
    chosen = {name: gates[name] for name in dict.fromkeys(names or gates)}
    if len(chosen) > _MOST_GATES:
        raise click.UsageError(
            f"{len(chosen)} EvalGates, but at most {_MOST_GATES} can judge a model: choose with --gate"
        )
    return objects, chosen


def _refuse_missing_base(gates: dict[str, EvalGateSpec], model: str, base: str | None) -> None:
    """Raise UsageError if the base model is needed, but not given."""
    if base is not None:
        return
    why = [
        f"EvalGate {name} compares with BaseModel"
        for name, spec in gates.items()
        if "BaseModel" in spec.compared_types
    ]
    why += [f"EvalGate {name} has a safety set" for name, spec in gates.items() if spec.safety]
    why += [f"{model} is an adapter"] if (Path(model) / "adapter_config.json").is_file() else []
    if why:
        raise click.UsageError(f"--base is required: {why[0]}")


def _source(given: str | None, revision: str | None) -> Object | None:
    """Return the source of a model, as in a job."""
    if given is None:
        return None
    return {"uri": address_of(given)} | ({"revision": revision} if revision else {})


def _job(option: str, source: Object, gates: Sequence[str], published: str | None) -> Object:
    """Return the manifest of a job with a model and the gates; the rest is placeholders. Raises UsageError
    for an address or a revision that a job cannot have."""
    job = data_job(_ANY_DATA, goal=None, model=None, revision=None, columns=())
    job["spec"]["model"] = source
    job["spec"]["gates"] = [{"name": name} for name in gates]
    job["spec"]["storage"] = {"persistentVolumeClaim": _CLAIM}
    job["spec"]["publish"] = [{"uri": address_of(published)}] if published else []
    problems = [re.sub(r"^spec\.model(\.uri)?: ", f"--{option}: ", str(one)) for one in find_problems(job)]
    if problems:
        raise click.UsageError("\n".join(problems))
    return job


def _notes(gates: dict[str, EvalGateSpec], found: GateRun) -> list[str]:
    """Return what the result does not show."""
    notes = []
    measured = [name for name, spec in gates.items() if spec.error_rate]
    sealed = [name for name, spec in gates.items() if spec.golden.sealed]
    if measured:
        notes.append(f"the error rate of {', '.join(measured)} is not measured: a job does this")
    if sealed:
        notes.append(
            f"{', '.join(sealed)}: sealed cases are evaluated as by a final gate, but the look is not counted"
        )
    if found.base is None:
        notes.append("the model is not compared with a base model")
    return notes


def _write(path: Path | None, text: str) -> None:
    if path is None:
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise NotMeasuredError(f"{path} cannot be written: {error}") from error


def _show(result: ModelResult, output: str) -> None:
    if output == "json":
        click.echo(result.model_dump_json(by_alias=True, exclude_none=True, indent=2))
    else:
        Console().print(gate_view(result))
