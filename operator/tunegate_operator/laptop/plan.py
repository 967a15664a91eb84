"""Run the trainer's forecast of a job in a temporary folder.

The folder has the layout of a pod's file system, see :mod:`tunegate_api.contract`, with those volumes that
exist on this machine.
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
"""Timeout of a forecast, which may check all data or convert a model."""
_LAST_LINES = 5
_FOLDERS = {"ConfigMap": "inputs", "Secret": "secrets"}


class ForecastError(Exception):
    """The trainer failed, or did not finish in time."""


def forecast(job: Object, objects: Sequence[Object], folder: Path, runs: Path) -> Forecast:
    """Return the forecast of ``job`` with the gates, ConfigMaps and Secrets among ``objects``.

    Claims are folders beside the manifest, in ``folder``, or below ``runs``. A converted model stays in the
    claim's folder, where ``tunegate run`` finds it. Raises ForecastError.
    """
    gates = [obj for obj in objects if obj["kind"] == "EvalGate"]
    with tempfile.TemporaryDirectory(prefix="tunegate-plan-") as temporary:
        root = Path(temporary)
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
    """Write a file for each key. They may hold secrets; only this user can read the temporary folder."""
    folder.mkdir(parents=True)
    for key, content in content_of(found).items():
        (folder / key).write_bytes(content)


def _claim_folder(claim: str, beside: Path, runs: Path) -> Path | None:
    """Return the folder of a claim on this machine, or None."""
    folders = (beside / claim, runs / "volumes" / claim)
    return next((folder.resolve() for folder in folders if folder.is_dir()), None)


def _models(job: Object, beside: Path, runs: Path) -> Path:
    """Return the folder in which ``tunegate run`` stores the job's model."""
    claim = job["spec"]["storage"]["persistentVolumeClaim"]
    storage = _claim_folder(claim, beside, runs) or (runs / "volumes" / claim).absolute()
    return storage / "models"


def _remove_if_empty(folder: Path, runs: Path) -> None:
    """Remove empty folders upwards, up to and including ``runs``."""
    while (folder == runs.absolute() or runs.absolute() in folder.parents) and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _run(root: Path) -> Forecast:
    """Run the trainer's forecast in its own process, so that this one does not load PyTorch."""
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
