"""A model family that the tests train and evaluate as a tiny random model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Family:
    """A model family, and how training and evaluation of its models differ from those of Llama."""

    name: str
    config: str
    """The configuration class in transformers."""
    features: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The arguments of the configuration that differ from those in :mod:`support.random_models`. An argument
    of None is left out."""
    multimodal: bool = False
    """Whether :mod:`support.multimodal_models` makes the configuration."""
    singly: bool = False
    """Whether the model computes one example at a time, because it does not keep packed examples apart."""
    fixed: bool = False
    """Whether transformers does not generate with this model by continuous batching."""
    targets: tuple[str, ...] = ()
    """The layers that get an adapter, if LoRA does not support all linear layers."""
    file: Mapping[str, Any] = field(default_factory=dict)
    """Fields of config.json that the configuration class would not write."""
    stage: Mapping[str, Any] = field(default_factory=dict)
    """The fields of the stage that make the data role refuse the job."""
    refused: str = ""
    """Why the data role refuses the model or the job, as part of its error."""
    remedy: str = ""
    """What to do, as part of the error's hint."""
    note: str = ""
    """Another difference, for the documentation."""

    @property
    def id(self) -> str:
        return self.name.lower().replace(" ", "-")
