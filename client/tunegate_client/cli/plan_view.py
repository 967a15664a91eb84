"""Show the result of `tunegate plan`, an estimate for one job, as a table, JSON or YAML."""

import json
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tunegate_api.contract.forecast import Forecast
from tunegate_api.contract.plan import StagePlan
from tunegate_api.contract.shapes import Memory
from tunegate_api.memory.advice import advise, fitting_cards
from tunegate_api.memory.fitting import CARDS, KEPT_FREE, least_memory, needed, size_text
from tunegate_api.v1alpha2 import FineTuneJob
from tunegate_api.v1alpha2.finetunejob import FineTuneJobSpec
from tunegate_client.laptop.object_folder import to_yaml
from tunegate_operator.engine.cluster import Object

MEMORY_PARTS = ("weights", "adapter", "optimizer", "gradients", "activations", "logits", "evaluation")


def plan_view(job: Object, forecast: Forecast) -> RenderableType:
    """Render the estimate for a job on a terminal."""
    spec = FineTuneJob.model_validate(job).spec
    on_gpu = spec.resources.accelerator == "GPU"
    sections: list[RenderableType] = []
    if forecast.model.parameters:
        sections.append(
            Text(f"model     {forecast.model.uri}, {_millions(forecast.model.parameters)} parameters")
        )
    if forecast.data:
        data = forecast.data
        sections.append(
            Text(f"data      {data.train.rows} train · {data.dev.rows} dev · {data.test.rows} test")
        )
        sections += [
            Text(f"mix       {mixed.rows_per_epoch} of the train rows are from {mixed.name}")
            for mixed in data.mix
        ]
        if data.preference:
            pairs = data.preference
            sections.append(
                Text(f"pairs     {pairs.train.rows} train · {pairs.dev.rows} dev · {pairs.test.rows} test")
            )
        if data.production:
            auc = data.production.distribution_auc
            compared = f" · a classifier distinguishes them with AUC {float(auc):.2f}" if auc else ""
            sections.append(Text(f"production {data.production.rows} inputs{compared}"))
        sections += [Text(f"note: {warning}", style="yellow") for warning in data.warnings]
    sections += [Text(f"note: {note}", style="yellow") for note in forecast.notes]
    if forecast.stages:
        sections += [Text(), _stages(forecast.stages)]
        if any(stage.memory for stage in forecast.stages):
            sections += [Text(), _memory(forecast.stages, _least(spec, forecast), on_gpu=on_gpu)]
            sections.append(Text(_memory_note(forecast.stages, on_gpu=on_gpu), style="dim"))
        sections += [
            Text(),
            Text("time      estimated in status after the first training steps"),
        ]
        advice = advise(spec, forecast.model.shape, forecast.stages, forecast.judging)
        sections += [Text(f"advice    {each}") for each in advice]
    if forecast.failure:
        failure = forecast.failure
        sections += [Text(), Text(f"would be refused: {failure.reason}: {failure.message}", style="bold red")]
        sections.append(Text(failure.hint, style="yellow"))
    style = "red" if forecast.failure else "blue"
    return Panel(
        Group(*sections), title=f"[bold]plan of {job['metadata']['name']}", border_style=style, padding=(0, 1)
    )


def plan_text(job: Object, forecast: Forecast, form: str) -> str:
    """Return the estimate for a job in the format ``form``, which is ``json`` or ``yaml``.

    Includes the advice, and for each stage the GPU sizes on which it fits."""
    spec = FineTuneJob.model_validate(job).spec
    content: dict[str, Any] = {
        "job": job["metadata"]["name"],
        **forecast.to_wire(),
        "fits": {
            stage.name: {f"{card}GB": fits for card, fits in fitting_cards(memory).items()}
            for stage, memory in zip(forecast.stages, _least(spec, forecast), strict=True)
        },
        "advice": advise(spec, forecast.model.shape, forecast.stages, forecast.judging),
    }
    return to_yaml(content) if form == "yaml" else json.dumps(content, indent=1) + "\n"


def _stages(stages: list[StagePlan]) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("STAGE", "METHOD", "TRAINS"):
        table.add_column(column)
    for column in ("STEPS", "CHECKPOINTS", "TOKENS/EPOCH", "EXAMPLES/STEP", "TOKENS/PASS"):
        table.add_column(column, justify="right")
    for stage in stages:
        parameters = stage.parameters
        table.add_row(
            stage.name,
            parameters.method,
            _trained(stage),
            *(f"{n:,}" if n else "?" for n in (stage.total_steps, len(stage.checkpoint_steps), stage.tokens)),
            str(parameters.batch_size),
            f"{parameters.pass_tokens:,}",
        )
    return table


def _trained(stage: StagePlan) -> str:
    parameters = stage.parameters
    excluded = ", ".join(parameters.excluded_modules or [])
    without = f", without {excluded}" if excluded else ""
    if parameters.adapter == "None":
        return f"all weights{without}"
    name = "QLoRA" if parameters.quantization else "LoRA"
    return f"{name} r {parameters.lora_r} on {', '.join(parameters.target_modules or [])}{without}"


def _least(spec: FineTuneJobSpec, forecast: Forecast) -> list[Memory | None]:
    """Return for each stage the least memory with which it runs on the accelerator; None if it is unknown."""
    if spec.resources.accelerator == "CPU":
        return [stage.memory for stage in forecast.stages]
    shape, processes = forecast.model.shape, spec.resources.processes
    return [least_memory(shape, stage, processes) if shape else None for stage in forecast.stages]


def _memory(stages: list[StagePlan], least: list[Memory | None], *, on_gpu: bool) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), title_justify="left")
    table.add_column("ESTIMATED MEMORY")
    for stage in stages:
        table.add_column(stage.name, justify="right")
    known = [stage.memory for stage in stages]
    for part in MEMORY_PARTS:
        table.add_row(part, *(_size(getattr(memory, part) if memory else None) for memory in known))
    table.add_row("peak", *(_size(memory.total if memory else None) for memory in known), style="bold")
    if on_gpu:
        table.add_row("GPU needed", *(_size(needed(memory) if memory else None) for memory in least))
        for card in CARDS:
            table.add_row(
                f"fits {card} GB", *("yes" if fitting_cards(memory)[card] else "no" for memory in least)
            )
    return table


def _size(size: int | None) -> str:
    return "?" if size is None else size_text(size) if size else "-"


def _memory_note(stages: list[StagePlan], *, on_gpu: bool) -> str:
    largest = ", ".join(
        f"{stage.name} {one.examples} x {one.longest}" for stage in stages if (one := stage.largest_pass)
    )
    notes = [
        "memory by part at the peak of a step, for the largest pass (examples x tokens of the longest): "
        f"{largest}"
    ]
    if on_gpu and any(stage.activation_checkpointing is None for stage in stages):
        notes.append("if they fit the GPU, the trainer keeps activations, and needs more")
    if on_gpu:
        notes.append(
            "the GPU needed is for one example per pass with recomputed activations, and "
            f"{KEPT_FREE} kept free"
        )
    return "; ".join(notes)


def _millions(count: int) -> str:
    return f"{count / 10**9:.2f} billion" if count >= 10**9 else f"{count / 10**6:.1f} million"
