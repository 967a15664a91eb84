"""Forecast the plan of a job for ``tunegate plan``: ``python -m tunegate_trainer.roles.forecast``.

This module reads the same files below ``$TUNEGATE_ROOT`` as the data role, with one exception: instead of the
request, it reads the manifests ``job.json`` and ``gates.json``, where gates may be missing. It writes
``forecast.json``.
"""

import sys
from pathlib import Path

from transformers import AutoConfig

from tunegate_api.contract.forecast import Forecast, ModelForecast
from tunegate_api.contract.plan import StagePlan
from tunegate_api.contract.process import Role
from tunegate_api.contract.request import Request
from tunegate_api.contract.shapes import ModelShape, Pass
from tunegate_api.v1alpha2 import EvalGate, FineTuneJob
from tunegate_trainer.data.folder import DataFolder
from tunegate_trainer.evaluate.stored_sets import store_sets
from tunegate_trainer.models.resolve import configuration_folder, model_length
from tunegate_trainer.models.safetensors import stored_dtype
from tunegate_trainer.models.shape import model_shape
from tunegate_trainer.models.target_modules import check_target_modules, skeleton
from tunegate_trainer.models.targets import with_targets
from tunegate_trainer.planning.manifests import make_request, read_manifests, without_gates
from tunegate_trainer.planning.plan import plan_notes, plan_stages
from tunegate_trainer.planning.prepare import prepare
from tunegate_trainer.planning.sizing import with_estimate
from tunegate_trainer.planning.too_large import GateMemory, too_large_error
from tunegate_trainer.process.command import run_command
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import SourceNotFoundError, TrainerError
from tunegate_trainer.process.files import write_model

FILE = "forecast.json"


def main() -> int:
    """Write the forecast. Return 0 even if the job would be refused, because the forecast contains the
    error."""
    return run_command(lambda root, _: write_model(root / FILE, forecast(root, *read_manifests(root))))


def forecast(root: Path, job: FineTuneJob, gates: list[EvalGate]) -> Forecast:
    """Return as much of the plan of ``job`` as its available files allow.

    If not even the model's configuration is available, the forecast contains only the error or a note.
    """
    spec = job.spec
    uri = str(spec.model.uri or "")
    if spec.model.start_from:
        unknown = (
            f"model.startFrom: the model of FineTuneJob {spec.model.start_from} is not available here; "
            "set model.uri to its address to plan the job"
        )
        return Forecast(model=ModelForecast(uri=uri, parameters=0), notes=[unknown])
    context = Context(role=Role.DATA, root=root)
    try:
        folder = configuration_folder(context, spec.model)
        longest = model_length(folder)
        shape = model_shape(folder)
    except TrainerError as error:
        return Forecast(model=ModelForecast(uri=uri, parameters=0), failure=error.failure)
    if shape is None:
        return _without_sizes(context, job, gates, folder)
    known = Forecast(model=ModelForecast(uri=uri, parameters=shape.parameters, shape=shape))
    try:
        return _with_rows(context, known, job, gates, folder)
    except SourceNotFoundError as error:
        notes = [f"{error}: rows, tokens, steps and the memory of evaluations are unknown"]
        known = known.model_copy(update={"notes": notes})
    except TrainerError as error:
        known = known.model_copy(update={"failure": error.failure})
    try:
        return _without_rows(context, known, job, folder, shape=shape, longest=longest)
    except TrainerError as error:  # the same error as above, or targets that do not work
        return known.model_copy(update={"failure": known.failure or error.failure})


def _without_sizes(context: Context, job: FineTuneJob, gates: list[EvalGate], folder: Path) -> Forecast:
    """Return the forecast for a model that can be trained, but whose memory cannot be estimated."""
    parameters = sum(weight.numel() for weight in skeleton(folder).parameters())
    known = Forecast(
        model=ModelForecast(uri=str(job.spec.model.uri), parameters=parameters),
        notes=[
            "model.uri: config.json does not contain the sizes of the model's layers, so the memory of "
            "the job is "
            "unknown"
        ],
    )
    try:
        return _with_rows(context, known, job, gates, folder)
    except SourceNotFoundError as error:
        known = known.model_copy(update={"notes": [*known.notes, f"{error}: rows and steps are unknown"]})
    except TrainerError as error:
        return known.model_copy(update={"failure": error.failure})
    request, stages = _planned(context, job, model_length(folder), parameters)
    return _refused_if_too_large(known, request, stages, stored_dtype(folder))


def _refused_if_too_large(
    known: Forecast, request: Request, stages: list[StagePlan], stored: str
) -> Forecast:
    """Return the forecast with the memory of the gate, and with the error of a job that does not fit one
    GPU."""
    gate = GateMemory(request, known.model.shape, known.model.parameters, stages, [], stored)
    too_large = too_large_error(gate)
    failure = known.failure or (too_large and too_large.failure)
    return known.model_copy(update={"judging": gate.memory(), "failure": failure})


def _planned(
    context: Context, job: FineTuneJob, longest: int, parameters: int
) -> tuple[Request, list[StagePlan]]:
    """Return the request and the stages of a job whose rows are unknown."""
    request = make_request(context.root, without_gates(job), [])
    return request, plan_stages(request, {method: [1] for method in ("SFT", "DPO")}, longest, parameters)


def _with_rows(
    context: Context, known: Forecast, job: FineTuneJob, gates: list[EvalGate], folder: Path
) -> Forecast:
    """Return the forecast with the plan of the data role. The rows and golden sets must be available."""
    context.request = make_request(context.root, job, gates)
    if not (folder / "tokenizer.json").is_file() and not (folder / "tokenizer_config.json").is_file():
        raise SourceNotFoundError(f"model.uri: there is no tokenizer in {known.model.uri}")
    store_sets(context)
    data = DataFolder(context.workspace / context.paths.data)
    prepared = prepare(context, data, folder, known.model.parameters)
    return known.model_copy(
        update={
            "data": prepared.data,
            "stages": prepared.stages,
            "judging": prepared.judging,
            "failure": prepared.too_large.failure if prepared.too_large else None,
        }
    )


def _without_rows(
    context: Context, known: Forecast, job: FineTuneJob, folder: Path, *, shape: ModelShape, longest: int
) -> Forecast:
    """Return the forecast for a job whose rows are unknown. Memory is estimated for a pass with one example
    or pair of the maximum length, with labels on all tokens."""
    if known.failure is None:
        check_target_modules(folder, job.spec.stages)
    request, planned = _planned(context, job, longest, shape.parameters)
    resolved = with_targets(folder, planned)
    stages = []
    for stage in resolved:
        length, examples = stage.parameters.max_length, 2 if stage.parameters.method == "DPO" else 1
        largest = Pass.of([length] * examples, labelled=length * examples)
        stages.append(_without_steps(with_estimate(request, stage, shape, largest=largest)))
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    notes = [*known.notes, *plan_notes(config, shape, resolved)]
    known = known.model_copy(update={"stages": stages, "notes": notes})
    return _refused_if_too_large(known, request, stages, stored_dtype(folder))


def _without_steps(stage: StagePlan) -> StagePlan:
    return stage.model_copy(update={"total_steps": 0, "tokens": 0, "checkpoint_steps": []})


if __name__ == "__main__":
    sys.exit(main())
