"""Forecast the plan of a job for ``tunegate plan``: ``python -m tunegate_trainer.roles.forecast``.

This module reads the same files below ``$TUNEGATE_ROOT`` as the data role, with one exception: instead of the
request, it reads the manifests ``job.json`` and ``gates.json``, where gates may be missing. It writes
``forecast.json``.
"""

import json
import sys
from functools import partial
from pathlib import Path

from transformers import AutoConfig

from tunegate_api.contract import (
    GateRequest,
    Request,
    Role,
    sha256_text,
)
from tunegate_api.forecast import Forecast, ModelForecast
from tunegate_api.memory.shapes import ModelShape, Pass
from tunegate_api.plan import ModelPlan, StagePlan
from tunegate_api.v1alpha1 import EvalGate, FineTuneJob
from tunegate_api.v1alpha1.evalgate import Golden
from tunegate_api.v1alpha1.finetunejob import FineTuneJobSpec
from tunegate_api.v1alpha1.safety import Safety
from tunegate_api.workspace import Workspace
from tunegate_trainer.data.folder import DataFolder
from tunegate_trainer.evaluate.golden_sets import golden_text
from tunegate_trainer.evaluate.safety_sets import safety_text
from tunegate_trainer.evaluate.stored_sets import store_sets
from tunegate_trainer.fetch import SCHEMES, fetch_model, find_model
from tunegate_trainer.fetch.model_files import choose_description
from tunegate_trainer.models.resolve import model_address, model_length, resolve_model, source_folder
from tunegate_trainer.models.safetensors import check_weights, stored_dtype
from tunegate_trainer.models.shape import model_shape
from tunegate_trainer.models.target_modules import check_target_modules, skeleton
from tunegate_trainer.models.targets import with_targets
from tunegate_trainer.planning.notes import plan_notes
from tunegate_trainer.planning.plan import plan_stages
from tunegate_trainer.planning.sizing import with_estimate
from tunegate_trainer.planning.too_large import GateMemory, too_large_error
from tunegate_trainer.process.command import Show, run_command
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import SourceNotFoundError, TrainerError
from tunegate_trainer.process.files import write_model
from tunegate_trainer.roles.data import prepare

FILE = "forecast.json"


def main() -> int:
    """Write the forecast. Return 0 even if the job would be refused, because the forecast contains the
    error."""

    def work(root: Path, _: Show) -> None:
        job = FineTuneJob.model_validate_json((root / "job.json").read_bytes())
        gates = [EvalGate.model_validate(gate) for gate in json.loads((root / "gates.json").read_bytes())]
        write_model(root / FILE, forecast(root, job, gates))

    return run_command(work)


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
        folder = model_folder(context, spec)
        longest = model_length(folder)
        shape = model_shape(folder)
    except TrainerError as error:
        return Forecast(model=ModelForecast(uri=uri, parameters=0), failure=error.failure)
    if shape is None:
        return _without_sizes(root, job, gates, folder)
    known = Forecast(model=ModelForecast(uri=uri, parameters=shape.parameters, shape=shape))
    try:
        _write_request(root, job, gates)
        return _with_rows(context, known, folder)
    except SourceNotFoundError as error:
        notes = [f"{error}: rows, tokens, steps and the memory of evaluations are unknown"]
        known = known.model_copy(update={"notes": notes})
    except TrainerError as error:
        known = known.model_copy(update={"failure": error.failure})
    try:
        return _without_rows(known, job, folder, shape, longest)
    except TrainerError as error:  # the same error as above, or targets that do not work
        return known.model_copy(update={"failure": known.failure or error.failure})


def _without_sizes(root: Path, job: FineTuneJob, gates: list[EvalGate], folder: Path) -> Forecast:
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
        _write_request(root, job, gates)
        return _with_rows(Context(role=Role.DATA, root=root), known, folder)
    except SourceNotFoundError as error:
        known = known.model_copy(update={"notes": [*known.notes, f"{error}: rows and steps are unknown"]})
    except TrainerError as error:
        return known.model_copy(update={"failure": error.failure})
    request, stages = _planned(job, model_length(folder), parameters)
    gate = GateMemory(request, _model_plan(known), stages, [], stored_dtype(folder))
    return _refused_if_too_large(known, gate)


def _refused_if_too_large(known: Forecast, gate: GateMemory) -> Forecast:
    """Return the forecast with the memory of the gate, and with the error of a job that does not fit one
    GPU."""
    too_large = too_large_error(gate)
    failure = known.failure or (too_large and too_large.failure)
    return known.model_copy(update={"judging": gate.memory(), "failure": failure})


def _planned(job: FineTuneJob, longest: int, parameters: int) -> tuple[Request, list[StagePlan]]:
    """Return the request and the stages of a job whose rows are unknown."""
    request = _request(job, without_gates(job.spec), [])
    return request, plan_stages(request, {method: [1] for method in ("SFT", "DPO")}, longest, parameters)


def model_folder(context: Context, spec: FineTuneJobSpec) -> Path:
    """Return the folder with the model's configuration.

    A local model is used in place. For a remote model, its configuration and tokenizer are downloaded to the
    workspace. A GGUF file is converted to a model in the workspace.
    """
    address = model_address(context, spec.model)
    if address.scheme in SCHEMES:
        described = find_model(address, partial(choose_description, address.uri))
        return fetch_model(address, described, context.workspace / "description")
    folder = source_folder(context.root, spec.model)
    if (folder / "config.json").is_file():
        check_weights(folder)
        return folder
    if not any(folder.glob("*.gguf")):
        raise SourceNotFoundError(
            f"model.uri: there is no config.json in {spec.model.uri}",
            "add the model's config.json, which has the model's sizes; weights and tokenizer may be missing",
        )
    model = resolve_model(context, spec.model)
    return context.workspace / Workspace.base_model(model.digest)


def _write_request(root: Path, job: FineTuneJob, gates: list[EvalGate]) -> None:
    write_model(root / "request" / "request.json", make_request(root, job, gates))


def make_request(root: Path, job: FineTuneJob, gates: list[EvalGate]) -> Request:
    """Return the request that the operator would record for ``job``. Raises :class:`SourceNotFoundError` if
    one of its gates is not in ``gates``."""
    spec, by_name = job.spec, {gate.metadata.name: gate for gate in gates}
    named = [spec.gates, *(stage.gates or [] for stage in spec.stages)]
    names = sorted({gate.name for gates_of_part in named for gate in gates_of_part})
    for name in names:
        if name not in by_name:
            raise SourceNotFoundError(
                f"EvalGate {name} is not in the manifests", "add the EvalGate to the manifests"
            )
    requests = [
        GateRequest(
            name=name,
            spec=by_name[name].spec,
            golden_sha256=_golden_sha256(root, name, by_name[name].spec.golden),
            safety_sha256=_safety_sha256(root, name, by_name[name].spec.safety),
        )
        for name in names
    ]
    return _request(job, job.spec, requests)


def _golden_sha256(root: Path, gate: str, golden: Golden) -> str:
    """Return the digest of a gate's golden set. That of a set at an address is checked when it is copied."""
    if golden.source.uri is not None:
        return golden.sha256 or ""
    return sha256_text(golden_text(Context(role=Role.DATA, root=root), gate, golden.source))


def _safety_sha256(root: Path, gate: str, safety: Safety | None) -> str | None:
    """Return the digest of a gate's safety set, see :func:`_golden_sha256`."""
    if safety is None:
        return None
    if safety.source.uri is not None:
        return safety.sha256 or ""
    return sha256_text(safety_text(Context(role=Role.DATA, root=root), gate, safety.source))


def _request(job: FineTuneJob, spec: FineTuneJobSpec, gates: list[GateRequest]) -> Request:
    return Request(
        name=job.metadata.name, namespace=job.metadata.namespace, uid="plan", spec=spec, gates=gates
    )


def _with_rows(context: Context, known: Forecast, folder: Path) -> Forecast:
    """Return the forecast with the plan of the data role. The rows and golden sets must be available."""
    if not (folder / "tokenizer.json").is_file() and not (folder / "tokenizer_config.json").is_file():
        raise SourceNotFoundError(f"model.uri: there is no tokenizer in {known.model.uri}")
    store_sets(context)
    model = _model_plan(known)
    data = DataFolder(context.workspace / context.paths.data)
    plan, too_large = prepare(context, data, model, folder)
    return known.model_copy(
        update={
            "data": plan.data,
            "stages": plan.stages,
            "judging": plan.judging,
            "failure": too_large.failure if too_large else None,
        }
    )


def _model_plan(known: Forecast) -> ModelPlan:
    model = known.model
    return ModelPlan(uri=model.uri, digest="0" * 64, parameters=model.parameters, shape=model.shape)


def _without_rows(
    known: Forecast, job: FineTuneJob, folder: Path, shape: ModelShape, longest: int
) -> Forecast:
    """Return the forecast for a job whose rows are unknown. Memory is estimated for a pass with one example
    or pair of the maximum length, with labels on all tokens."""
    if known.failure is None:
        check_target_modules(folder, job.spec.stages)
    request, planned = _planned(job, longest, shape.parameters)
    resolved = with_targets(folder, planned)
    stages = []
    for stage in resolved:
        length, examples = stage.parameters.max_length, 2 if stage.parameters.method == "DPO" else 1
        largest = Pass.of([length] * examples, labelled=length * examples)
        stages.append(_without_steps(with_estimate(request, stage, shape, largest=largest)))
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    notes = [*known.notes, *plan_notes(config, shape, resolved)]
    known = known.model_copy(update={"stages": stages, "notes": notes})
    gate = GateMemory(request, _model_plan(known), stages, [], stored_dtype(folder))
    return _refused_if_too_large(known, gate)


def _without_steps(stage: StagePlan) -> StagePlan:
    return stage.model_copy(update={"total_steps": 0, "tokens": 0, "checkpoint_steps": []})


def without_gates(spec: FineTuneJobSpec) -> FineTuneJobSpec:
    stages = [stage.model_copy(update={"gates": None}) for stage in spec.stages]
    return spec.model_copy(update={"gates": [], "stages": stages})


if __name__ == "__main__":
    sys.exit(main())
