"""Run the trainer's forecast or data checks for a job, let it sample, or let it evaluate a model, in a
temporary folder.

The folder has the layout of a pod's file system, see :mod:`tunegate_api.contract`. It contains the job's
volumes that exist on this machine.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, cast

from tunegate_api.cases.golden_findings import LintedGolden
from tunegate_api.contract.forecast import CheckedData, Forecast
from tunegate_api.contract.gate_run import GateRun, GateRunRequest
from tunegate_api.contract.process import FAILURE_FILE, ROOT_VARIABLE
from tunegate_api.contract.workspace import Workspace
from tunegate_api.preference import SampledPrompt, SampleRequest
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_client.laptop.models_folder import models_folder
from tunegate_client.laptop.pod_folder import content_of
from tunegate_client.laptop.trainer import missing_trainer
from tunegate_client.laptop.volumes import claims_of
from tunegate_operator.engine.cluster import Object

SECONDS = 3600
"""Timeout in seconds. A forecast may check all data and convert a model."""
_LAST_LINES = 5
_FOLDERS = {"ConfigMap": "inputs", "Secret": "secrets"}


class ForecastError(Exception):
    """The trainer failed or timed out."""


def forecast(job: Object, objects: Sequence[Object], folder: Path, runs: Path) -> Forecast:
    """Return the forecast for ``job``, which may refer to the EvalGates, ConfigMaps and Secrets in
    ``objects``.

    The folder of a claim is in ``folder``, next to the manifests, or else in ``runs``. A converted model is
    kept in the claim's folder, where ``tunegate run`` finds it. Raises ForecastError.
    """
    with _pod_folder(job, objects, folder, runs) as root:
        return Forecast.model_validate_json(_run(root, "forecast"))


def check(
    job: Object,
    objects: Sequence[Object],
    folder: Path,
    runs: Path,
    *,
    any_model: bool = False,
    any_goal: bool = False,
    describe: bool = False,
    report: Path | None = None,
) -> CheckedData:
    """Return what the data checks find in the data of ``job``, see :func:`forecast`.

    With ``any_model``, rows are measured in words, and the model of the job is not used. With ``any_goal``,
    the number of rows is not checked. With ``describe``, the rows are described, and columns that the job
    does not set are guessed. With ``report``, all rows that the checks find are written to this file.
    """
    given = {"--any-model": any_model, "--any-goal": any_goal, "--describe": describe}
    options = [option for option, is_given in given.items() if is_given]
    options += ["--report", str(report.absolute())] if report else []
    with _pod_folder(job, objects, folder, runs) as root:
        return CheckedData.model_validate_json(_run(root, "check", *options))


def sample(request: SampleRequest, folder: Path, runs: Path) -> Generator[SampledPrompt, None, None]:
    """Yield the completions that a model gives to prompts, see :func:`forecast`. A downloaded model is kept
    in the claim ``tuning`` in ``runs``. Raises ForecastError."""
    spec = {"model": {"uri": request.model}, "storage": {"persistentVolumeClaim": "tuning"}}
    with _pod_folder({"kind": "FineTuneJob", "spec": spec}, [], folder, runs) as root:
        (root / "sample.json").write_text(request.model_dump_json(), encoding="utf-8")
        with closing(run_role(root, _environment(root), "sample")) as lines:
            for line in lines:
                yield SampledPrompt.model_validate_json(line)


def run_gates(
    wanted: GateRunRequest,
    job: Object,
    objects: Sequence[Object],
    folder: Path,
    runs: Path,
    *,
    show: Callable[[str], None],
) -> GateRun:
    """Return the outcomes of a model on the sets of the gates that ``job`` names, see :func:`forecast`.
    ``show`` gets a text before each evaluation. Raises ForecastError."""
    models = {"kind": "GateRunRequest", "spec": wanted.to_wire()}
    with _pod_folder(job, objects, folder, runs, others=[models]) as root:
        (root / "gate_run.json").write_text(wanted.model_dump_json(by_alias=True), encoding="utf-8")
        # As in a pod. Otherwise PyTorch's threads wait for each other by spinning.
        environment = {"GOMP_SPINCOUNT": "10000", **_environment(root)}
        with closing(run_role(root, environment, "gate_run")) as lines:
            for line in lines:
                show(line.strip())
        return GateRun.model_validate_json((root / "gate_run_result.json").read_bytes())


def run_role(root: Path, environment: dict[str, str], role: str, *options: str) -> Generator[str, None, None]:
    """Run a role of the trainer in its own process, so that this one does not load PyTorch. Yield the lines
    that it writes. ``root`` has its files. Raises ForecastError if the role fails."""
    with (
        (root / "stderr").open("w+", encoding="utf-8", errors="replace") as errors,
        subprocess.Popen(
            _command(role, *options), env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            yield from _lines(process)
        finally:
            process.kill()
        errors.seek(0)
        _raise_failure(root, process.wait(), errors.read())


def lint_golden(text: str) -> LintedGolden:
    """Return the weaknesses of a valid golden set, given as JSON Lines. Raises ForecastError."""
    with tempfile.TemporaryDirectory(prefix="tunegate-lint-") as temporary:
        root = Path(temporary)
        (root / "golden.jsonl").write_text(text, encoding="utf-8", newline="")
        return LintedGolden.model_validate_json(_run(root, "lint"))


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    """Yield the lines of a process. Raises ForecastError if it writes none for a long time."""
    output, expired = cast("IO[str]", process.stdout), threading.Event()

    def expire() -> None:
        expired.set()
        process.kill()

    while True:
        deadline = threading.Timer(SECONDS, expire)
        deadline.daemon = True
        deadline.start()
        line = output.readline()
        deadline.cancel()
        if expired.is_set():
            raise ForecastError(f"the trainer did not finish within {SECONDS} s")
        if not line:
            process.wait()
            return
        yield line


def _raise_failure(root: Path, code: int, errors: str) -> None:
    """Raise ForecastError if the role has failed."""
    found = root / FAILURE_FILE
    if found.exists():
        failure = Failure.model_validate_json(found.read_bytes())
        raise ForecastError(f"{failure.message}; {failure.hint}" if failure.hint else failure.message)
    if code:
        raise ForecastError(f"the trainer ended with exit code {code}:\n{_last_lines(errors)}")


@contextmanager
def _pod_folder(
    job: Object, objects: Sequence[Object], folder: Path, runs: Path, others: Sequence[Object] = ()
) -> Iterator[Path]:
    """Create the temporary folder with the job's inputs, and remove it afterwards. It has the claims of the
    job, of the gates in ``objects``, and of ``others``."""
    gates = [obj for obj in objects if obj["kind"] == "EvalGate"]
    with tempfile.TemporaryDirectory(prefix="tunegate-plan-") as temporary:
        root = Path(temporary)
        (root / "job.json").write_text(json.dumps(job), encoding="utf-8")
        (root / "gates.json").write_text(json.dumps(gates), encoding="utf-8")
        for obj in objects:
            if obj["kind"] in _FOLDERS:
                _write_keys(obj, root / _FOLDERS[obj["kind"]] / obj["metadata"]["name"])
        (root / "volumes").mkdir()
        for claim in claims_of([job, *gates, *others]):
            found = _claim_folder(claim, folder, runs)
            if found:
                (root / "volumes" / claim).symlink_to(found)
        models = _models(job, folder, runs)
        linked = root / "workspace" / Workspace.models
        linked.parent.mkdir(parents=True)
        linked.symlink_to(models)
        with models_folder(models, runs):
            yield root


def _write_keys(found: Object, folder: Path) -> None:
    """Write the values of a ConfigMap or Secret, one file per key. ``folder`` must be in a temporary folder
    that only this user can read, because the files may contain secrets."""
    folder.mkdir(parents=True)
    for key, content in content_of(found).items():
        (folder / key).write_bytes(content)


def _claim_folder(claim: str, beside: Path, runs: Path) -> Path | None:
    """Return the folder of a claim: the folder next to the manifests, or else the one in ``runs``, or
    None."""
    folders = (beside / claim, runs / "volumes" / claim)
    return next((folder.resolve() for folder in folders if folder.is_dir()), None)


def _models(job: Object, beside: Path, runs: Path) -> Path:
    """Return the folder in which ``tunegate run`` stores models for the job."""
    claim = job["spec"]["storage"]["persistentVolumeClaim"]
    storage = _claim_folder(claim, beside, runs) or (runs / "volumes" / claim).absolute()
    return storage / Workspace.models


def _run(root: Path, role: str, *options: str) -> bytes:
    """Run a role of the trainer that shows nothing. Return the content of the file that the role writes."""
    with closing(run_role(root, _environment(root), role, *options)) as lines:
        for _ in lines:
            pass
    return (root / f"{role}.json").read_bytes()


def _command(role: str, *options: str) -> list[str]:
    """Return the command of a role. Raises ForecastError if the trainer is not installed."""
    if missing := missing_trainer():
        raise ForecastError(missing)
    return [sys.executable, "-m", f"tunegate_trainer.roles.{role}", *options]


def _environment(root: Path) -> dict[str, str]:
    return {**os.environ, ROOT_VARIABLE: str(root), "HF_HUB_DISABLE_TELEMETRY": "1"}


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-_LAST_LINES:])
