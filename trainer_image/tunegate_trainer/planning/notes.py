"""State in the plan what a model's configuration implies for training."""

from collections.abc import Iterator, Sequence
from typing import Any

from tunegate_api.contract.plan import StagePlan
from tunegate_api.memory.mixture_notes import mixture_notes
from tunegate_api.memory.shapes import ModelShape
from tunegate_trainer.models.architecture import dropout_rates


def plan_notes(config: Any, shape: ModelShape | None, stages: Sequence[StagePlan]) -> Iterator[str]:
    """Yield notes about the stages: what a mixture of experts trains and quantizes, and whether the model's
    own dropout is on. ``config`` is the ``PreTrainedConfig`` of the model."""
    if shape:
        yield from mixture_notes(shape, stages)
    rates = ", ".join(f"{name} {rate:g}" for name, rate in dropout_rates(config).items())
    for stage in stages:
        if rates and stage.parameters.method == "SFT":
            yield f"stage {stage.name}: the model's own dropout is on in training, as in TRL: {rates}"
