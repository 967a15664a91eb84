"""Open the client of a tracker, with its credentials and environment variables."""

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Protocol

from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import CredentialsError
from tunegate_trainer.tracking.runs import TrackedRun

CREDENTIALS = {
    "mlflow": ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
    "wandb": ("WANDB_API_KEY",),
}
"""For each tracker, the keys of its Secret. They have the same names as the environment variables of the
client."""
_LIMITS = {
    # By default the clients retry for minutes, but we retry ourselves, from the files. One retry remains for
    # a connection that the server closed while it was idle.
    "mlflow": {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "8",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": "8",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    },
    "wandb": {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"},
}


class Tracker(Protocol):
    """The client of one tracker."""

    @property
    def pause(self) -> float | None:
        """Seconds between two attempts. If None, there is only one attempt, when the pod ends."""

    @property
    def attempt_seconds(self) -> int:
        """Time limit of one attempt in seconds."""

    def send(self, runs: Sequence[TrackedRun]) -> None:
        """Send everything that the tracker does not have yet. Any exception means that the attempt failed."""


def prepare_environment(context: Context, name: str) -> list[str]:
    """Set the environment that the client of a tracker reads when it is imported.

    Return the credentials, which must not appear in any message. Raises :class:`CredentialsError` if the
    Secret has none of the keys.
    """
    os.environ.update(_LIMITS[name])
    tracking = context.request.spec.tracking
    wanted = tracking and (tracking.mlflow if name == "mlflow" else tracking.wandb)
    keys = CREDENTIALS[name]
    if wanted and wanted.secret_name:
        secret = context.secret(wanted.secret_name)
        found = {key: secret[key] for key in keys if key in secret}
        if not found:
            raise CredentialsError(
                f"Secret {secret.name} has none of the keys {', '.join(keys)}",
                "add the tracker's credentials to the Secret under these keys",
            )
        os.environ.update(found)
    return [value for key in keys if (value := os.environ.get(key))]


def open_tracker(context: Context, name: str) -> Tracker:
    """Import the client of a tracker, which takes seconds, and return it. The client does not connect yet."""
    request, folder = context.request, context.workspace / context.paths.tracking
    tracking = request.spec.tracking
    tracker: Tracker
    if name == "mlflow" and tracking and tracking.mlflow:
        tracker = import_module("tunegate_trainer.tracking.mlflow_tracker").MlflowTracker(
            tracking.mlflow.uri, tracking.mlflow.experiment, request.uid, folder / "mlflow.json"
        )
    elif name == "wandb" and tracking and tracking.wandb:
        tracker = import_module("tunegate_trainer.tracking.wandb_tracker").WandbTracker(
            tracking.wandb.project, tracking.wandb.entity, request.uid, folder
        )
    else:
        raise ValueError(f"the job has no tracker {name}")
    return tracker
