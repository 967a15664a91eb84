"""The types for experiment trackers that a job reports to."""

from typing import Annotated

from pydantic import Field

from tunegate_api.meta import ApiModel, ObjectName
from tunegate_api.v1alpha2.endpoint import HTTP_PATTERN
from tunegate_api.v1alpha2.values import Form


class Mlflow(ApiModel):
    """An MLflow tracking server."""

    uri: Annotated[
        str,
        Field(pattern=HTTP_PATTERN, max_length=1024, examples=["http://mlflow.mlops:5000"]),
        Form("^[^/]+//[^/]*@", "must not contain credentials: name a Secret, as secretName", never=True),
    ]
    """Address of the tracking server."""
    experiment: Annotated[str, Field(min_length=1, max_length=256, examples=["invoices"])]
    """Name of the experiment in which runs are recorded. The experiment is created if it does not exist."""
    secret_name: Annotated[ObjectName | None, Field(examples=["mlflow-token"])] = None
    """Name of the Secret with the credentials for `uri`. Keys: MLFLOW_TRACKING_TOKEN, or
    MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."""


class WeightsAndBiases(ApiModel):
    """A project of Weights & Biases."""

    project: Annotated[str, Field(min_length=1, max_length=128, examples=["invoices"])]
    """Name of the project in which runs are recorded."""
    entity: Annotated[str | None, Field(max_length=256, examples=["document-team"])] = None
    """Name of the team or user that owns the project."""
    secret_name: Annotated[ObjectName | None, Field(examples=["wandb-key"])] = None
    """Name of the Secret with the API key. Key: WANDB_API_KEY."""


class Tracking(ApiModel):
    """Experiment trackers that receive parameters, metrics and verdicts."""

    mlflow: Mlflow | None = None
    """An MLflow tracking server."""
    wandb: WeightsAndBiases | None = None
    """A project of Weights & Biases."""
