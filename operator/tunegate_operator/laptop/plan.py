"""What a job would be: the trainer's forecast, in a folder that is gone afterwards.

The trainer finds there what it would in a pod, as :mod:`tunegate_api.contract` says; of the volumes, those
that are on this machine.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tunegate_api.contract import ROOT_VARIABLE, Forecast
from tunegate_operator.engine.cluster import Object
from tunegate_operator.laptop.pod_folder import content_of
from tunegate_operator.laptop.volumes import claims_of

SECONDS = 3600
"""That checking data, or converting a model, may take."""
_LAST_LINES = 5
_FOLDERS = {"ConfigMap": "inputs", "Secret": "secrets"}


class ForecastError(Exception):
    """The trainer could not say what a job would be, and not why."""


def forecast(job: Object, objects: Sequence[Object], folder: Path, runs: Path) -> Forecast:
    """What ``job`` would be, by the gates, ConfigMaps and Secrets among ``objects``.

    Claims are folders beside the manifest, in ``folder``, or below ``runs``. A model that has to be converted
    is kept below ``runs``, where ``tunegate run`` finds it. Raises ForecastError.
    """
    gates = [obj for obj in objects if obj["kind"] == "EvalGate"]
    with tempfile.TemporaryDirectory(prefix="tunegate-plan-") as made:
        root = Path(made)
        (root / "job.json").write_text(json.dumps(job), encoding="utf-8")
        (root / "gates.json").write_text(json.dumps(gates), encoding="utf-8")
        for obj in objects:
            if obj["kind"] in _FOLDERS:
                _write_keys(obj, root / _FOLDERS[obj["kind"]] / obj["metadata"]["name"])
        (root / "volumes").mkdir()
        for claim in claims_of([job, *gates]):
            found = _claim_folder(claim, folder, runs)
            if found:
                (root / "volumes" / claim).symlink_to(found)
        models = _models(job, folder, runs)
        models.mkdir(parents=True, exist_ok=True)
        (root / "workspace").mkdir()
        (root / "workspace" / "models").symlink_to(models)
        try:
            return _run(root)
        finally:
            _remove_if_empty(models, runs)


def _write_keys(found: Object, folder: Path) -> None:
    """A file for each key. The folder above all of them is this user's alone."""
    folder.mkdir(parents=True)
    for key, content in content_of(found).items():
        (folder / key).write_bytes(content)


def _claim_folder(claim: str, beside: Path, runs: Path) -> Path | None:
    """Where a claim is on this machine; None if it is not."""
    folders = (beside / claim, runs / "volumes" / claim)
    return next((folder.resolve() for folder in folders if folder.is_dir()), None)


def _models(job: Object, beside: Path, runs: Path) -> Path:
    """Where ``tunegate run`` would keep the job's model."""
    claim = job["spec"]["storage"]["persistentVolumeClaim"]
    storage = _claim_folder(claim, beside, runs) or (runs / "volumes" / claim).absolute()
    return storage / "models"


def _remove_if_empty(folder: Path, runs: Path) -> None:
    """Remove folders that nothing was put into, up to the one of all runs."""
    while (folder == runs.absolute() or runs.absolute() in folder.parents) and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _run(root: Path) -> Forecast:
    """Let the trainer look. It is a process of its own: nothing here loads PyTorch."""
    environment = {**os.environ, ROOT_VARIABLE: str(root), "HF_HUB_DISABLE_TELEMETRY": "1"}
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "tunegate_trainer.roles.forecast"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ForecastError(f"the estimate did not finish within {SECONDS} s") from error
    if ended.returncode != 0:
        last = "\n".join(ended.stderr.strip().splitlines()[-_LAST_LINES:])
        raise ForecastError(f"the trainer failed to estimate the job:\n{last}")
    return Forecast.model_validate_json((root / "forecast.json").read_bytes())
