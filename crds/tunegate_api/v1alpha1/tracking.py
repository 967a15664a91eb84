"""Experiment trackers that a job reports to."""

from typing import Annotated

from pydantic import Field

from tunegate_api.meta import ApiModel, Name


class Mlflow(ApiModel):
    """An MLflow tracking server."""

    uri: Annotated[str, Field(max_length=1024, examples=["http://mlflow.mlops:5000"])]
    """The tracking server."""
    experiment: Annotated[str, Field(max_length=256, examples=["invoices"])]
    """The experiment that runs are written to."""
    secret_name: Annotated[Name | None, Field(examples=["mlflow-token"])] = None
    """The Secret with the credentials for `uri`."""


class WeightsAndBiases(ApiModel):
    """A project of Weights & Biases."""

    project: Annotated[str, Field(max_length=256, examples=["invoices"])]
    """The project that runs are written to."""
    entity: Annotated[str | None, Field(max_length=256, examples=["document-team"])] = None
    """The team or user that owns the project."""
    secret_name: Annotated[Name | None, Field(examples=["wandb-key"])] = None
    """The Secret with the API key."""


class Tracking(ApiModel):
    """Experiment trackers that receive parameters, metrics and verdicts."""

    mlflow: Mlflow | None = None
    """An MLflow tracking server."""
    wandb: WeightsAndBiases | None = None
    """A project of Weights & Biases."""
