"""State which weights of a mixture of experts a stage trains, and which weights are quantized."""

from collections.abc import Iterable, Iterator

from tunegate_api.contract.plan import StagePlan
from tunegate_api.contract.shapes import ModelShape


def mixture_notes(model: ModelShape, stages: Iterable[StagePlan]) -> Iterator[str]:
    """Yield notes for a plan: which weights the adapters of the stages train, and which weights keep 16 bits
    despite quantization. Yields nothing for a model without routed experts."""
    stacked = [one for one in model.linears if one.is_stacked]
    if not stacked:
        return
    experts = _percent(sum(one.weights for one in stacked), model)
    names = " and ".join(".".join(one.name.split(".")[-2:]) for one in stacked)
    for stage in stages:
        parameters = stage.parameters
        targets = parameters.target_modules or []
        if parameters.adapter == "None":
            continue
        if not any(one.is_stacked for one in model.targets(targets)):
            yield (
                f"stage {stage.name}: the adapter trains {', '.join(targets)}; the routed experts, {experts} "
                f"of the weights, are not trained: name {names} in adapter.targetModules to train them too"
            )
        if parameters.quantization:
            yield (
                f"stage {stage.name}: {parameters.quantization} stores {_percent(model.quantized, model)} of "
                "the weights in 4 bits; the others keep 16 bits, because bitsandbytes quantizes only linear "
                "layers, and not the tensors of experts"
            )


def _percent(weights: int, model: ModelShape) -> str:
    return f"{100 * weights / model.parameters:.0f} %"
