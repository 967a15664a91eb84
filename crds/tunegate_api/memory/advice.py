"""Advise which training method and which GPU fit a job, from its stages and their memory estimates. Pure."""

from collections.abc import Iterator

from tunegate_api.contract.plan import StagePlan
from tunegate_api.contract.shapes import Memory, ModelShape
from tunegate_api.memory.fitting import CARDS, fits, least_memory, needed, remedies, size_text, smallest_card
from tunegate_api.v1alpha2.finetunejob import FineTuneJobSpec

GB = 10**9


def advise(
    spec: FineTuneJobSpec, model: ModelShape | None, stages: list[StagePlan], judging: Memory | None
) -> list[str]:
    """Return the advice: what a user may want to change, and why. docs/choosing.md explains how to choose.

    ``model`` is the shape of the model, and ``judging`` the memory that the final gate needs. Each is None if
    it is unknown.
    """
    return [*_on_method(stages), *_on_gpus(spec, model, stages), *_on_judging(spec, model, stages, judging)]


def _on_method(stages: list[StagePlan]) -> Iterator[str]:
    if any(stage.parameters.adapter == "None" for stage in stages):
        yield (
            "train all weights only if a higher adapter rank no longer helps: "
            "SFT with LoRA is enough to learn a format or a domain"
        )
    if all(stage.parameters.method == "SFT" for stage in stages):
        yield (
            "for preference, style or refusals add a stage with method: DPO after SFT, and pairs as a "
            "source with use: Preference"
        )


def _on_gpus(spec: FineTuneJobSpec, model: ModelShape | None, stages: list[StagePlan]) -> Iterator[str]:
    if spec.resources.accelerator == "CPU" or model is None:
        return
    for stage in stages:
        if stage.parallelism == "FSDP":
            yield (
                f"stage {stage.name} is sharded by FSDP, which has not run on a GPU yet: compare its first "
                "losses with those of an adapter"
            )
        least = least_memory(model, stage, spec.resources.processes)
        if least is None:
            continue
        card = smallest_card(least)
        smaller = _smaller_cards(stage, model, card, spec.resources.processes)
        if card is None:
            yield f"stage {stage.name} does not fit a GPU of {_listed(CARDS)} GB" + (
                f": {smaller}" if smaller else ""
            )
        else:
            yield f"stage {stage.name} fits a GPU of {card} GB" + (f"; {smaller}" if smaller else "")
    if not (spec.resources.gpu and spec.resources.gpu.memory):
        yield "set resources.gpu.memory: a job that does not fit is then refused before it requests a GPU"


def _on_judging(
    spec: FineTuneJobSpec, model: ModelShape | None, stages: list[StagePlan], judging: Memory | None
) -> Iterator[str]:
    least = [least_memory(model, stage, spec.resources.processes) for stage in stages if model]
    trained = max((needed(memory) for memory in least if memory), default=0)
    if judging and spec.resources.accelerator == "GPU" and needed(judging) > trained:
        yield (
            f"the gate needs {size_text(needed(judging))}, more than training needs at least: it judges the "
            "artifact on one GPU"
        )


def _smaller_cards(stage: StagePlan, model: ModelShape, card: int | None, processes: int) -> str:
    """Return the changes with which the stage fits a smaller GPU than ``card``; empty if there are none."""
    found = []
    for remedy in remedies(model, stage, processes):
        enough = smallest_card(remedy.memory)
        if enough is not None and (card is None or enough < card):
            found.append(f"{remedy.change} would fit {enough} GB, with {size_text(remedy.memory.total)}")
    return "; ".join(found)


def fitting_cards(memory: Memory | None) -> dict[int, bool]:
    """Return for each common GPU memory size in GB whether a stage that needs ``memory`` fits into it: False
    for all sizes if the memory is unknown."""
    return {card: memory is not None and fits(memory, card * GB) for card in CARDS}


def _listed(cards: tuple[int, ...]) -> str:
    return ", ".join(str(card) for card in cards[:-1]) + f" or {cards[-1]}"
