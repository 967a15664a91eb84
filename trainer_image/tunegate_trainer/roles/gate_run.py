"""Evaluate a model on the sets of gates for ``tunegate gate run``: ``python -m
tunegate_trainer.roles.gate_run``.

This module reads the same files below ``$TUNEGATE_ROOT`` as :mod:`tunegate_trainer.roles.forecast`, and
``gate_run.json``, a :class:`GateRunRequest`. It evaluates the models with the functions of the final gate,
:mod:`tunegate_trainer.roles.gate`. It writes what it does to stdout, one line per evaluation, and a
:class:`GateRun` to ``gate_run_result.json``.
"""

import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from tunegate_api.cases.golden import GoldenCase
from tunegate_api.cases.safety_cases import SafetyCase
from tunegate_api.contract.gate_run import GateRun, GateRunRequest, MeasuredCase, MeasuredModel
from tunegate_api.contract.process import Role
from tunegate_api.contract.request import Request
from tunegate_api.contract.results import Subject
from tunegate_trainer.artifacts.build import is_adapter, load_artifact
from tunegate_trainer.evaluate.evaluate import SetResult, Weights, as_evaluation, as_results, evaluate
from tunegate_trainer.evaluate.generate import device_name
from tunegate_trainer.evaluate.given_artifact import GivenArtifact, given_base, link_artifact
from tunegate_trainer.evaluate.golden_sets import golden_sets
from tunegate_trainer.evaluate.published import stops_of
from tunegate_trainer.evaluate.safety_sets import safety_sets
from tunegate_trainer.evaluate.servers import check_servers
from tunegate_trainer.evaluate.sets import Case, GeneratedSet, check_prompts
from tunegate_trainer.evaluate.stored_sets import store_sets
from tunegate_trainer.evaluate.subjects import measure_subjects
from tunegate_trainer.evaluate.subjects.setting import SubjectSetting
from tunegate_trainer.graders.model.gates import calibrate_judges
from tunegate_trainer.models.loading import load_base
from tunegate_trainer.models.matching_weights import embedding_rows
from tunegate_trainer.models.resolve import model_length, require_bitsandbytes
from tunegate_trainer.models.safetensors import stored_dtype
from tunegate_trainer.planning.manifests import make_request, read_manifests
from tunegate_trainer.planning.plan import base_dtype
from tunegate_trainer.process.command import Show, run_command
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.device import choose_device, free_memory
from tunegate_trainer.process.errors import (
    TrainerError,
    UserError,
    is_out_of_memory,
    out_of_memory_explained,
)
from tunegate_trainer.process.files import write_model
from tunegate_trainer.publish.targets import open_compared, open_target
from tunegate_trainer.tokens.chat import load_tokenizer
from tunegate_trainer.tokens.model_tokenizer import load_model_tokenizer

REQUEST, RESULT = "gate_run.json", "gate_run_result.json"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
_OUT_OF_MEMORY = "lower --batch-size, or use a GPU with more memory"


def main() -> int:
    """Write the outcomes, and return the exit code."""

    def work(root: Path, show: Show) -> None:
        with out_of_memory_explained(lambda: _OUT_OF_MEMORY):
            write_model(root / RESULT, run_gates(root, show))

    return run_command(work, level=logging.ERROR)


@dataclass(frozen=True)
class _Base:
    folder: Path
    measured: MeasuredModel


@dataclass(frozen=True)
class _Models:
    """The models to evaluate, and how to load them."""

    artifact: GivenArtifact
    base: _Base | None
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    dtype: str
    quantization: str | None

    @property
    def base_folder(self) -> Path | None:
        return self.base.folder if self.base else None

    @property
    def configured(self) -> Path:
        """The folder with the model's configuration."""
        is_whole = self.base is None or not is_adapter(self.artifact.folder)
        return self.artifact.folder if is_whole or self.base is None else self.base.folder


def run_gates(root: Path, report: Callable[[str], None]) -> GateRun:
    """Evaluate the model and its base model on the sets of the gates whose manifests are below ``root``.
    ``report`` is called before each evaluation. Raises :class:`TrainerError` if a model, a set or a server of
    scorers cannot be used."""
    wanted = GateRunRequest.model_validate_json((root / REQUEST).read_bytes())
    context = Context(role=Role.GATE, root=root)
    context.request = request = _request(root)
    golden_cases, warnings = _check_servers(context)
    report("reading the model")
    models = _models(context, wanted)
    base = models.base.measured if models.base else None
    context.gate_judges, of_judges = calibrate_judges(context, golden_cases)
    golden = golden_sets(context, models.tokenizer, request.final_gates)
    sets = [*golden, *safety_sets(context, models.tokenizer, request.final_gates)]
    longest, embeddings = model_length(models.configured), embedding_rows(models.configured)
    check_prompts(models.tokenizer, sets, longest, embeddings)

    base_results, final_results = _evaluate(models, sets, report)
    stage = request.spec.stages[-1].name
    evaluations = []
    if base and base_results:
        weights = Weights(Subject.BASE, stage, step=0, digest=base.digest)
        evaluations.append(as_evaluation(weights, sets, base_results))
    weights = Weights(Subject.FINAL, stage, step=0, digest=models.artifact.digest)
    evaluations.append(as_evaluation(weights, sets, final_results))
    answers = measure_subjects(
        SubjectSetting(
            context,
            stage,
            models.tokenizer,
            golden,
            models.device,
            base.digest if base else None,
            sources=open_compared(context),
            outputs=root / "compared",
            report=report,
        )
    )
    results = as_results(sets, [*evaluations, *answers.evaluations])
    return GateRun(
        request=request,
        results=results.model_copy(update={"last_published": answers.last_published}),
        cases=_cases(sets, final_results, base_results),
        model=MeasuredModel(
            uri=str(wanted.model.uri),
            digest=models.artifact.digest,
            is_adapter=is_adapter(models.artifact.folder),
        ),
        base=base,
        device=device_name(models.device),
        dtype=models.dtype,
        quantization=models.quantization,
        warnings=[*context.dry_run_faults.values(), *warnings, *of_judges],
    )


def _check_servers(context: Context) -> tuple[dict[str, list[GoldenCase]], list[str]]:
    """Check what needs no model: the sets at addresses, the publish target and the servers. Return the
    golden cases by the name of the gate, and warnings. Raises :class:`TrainerError`."""
    store_sets(context)
    for target in context.request.spec.publish:
        with _named("--published", "spec.publish: "):
            open_target(context.root, target.uri)
    return check_servers(context)


def _models(context: Context, wanted: GateRunRequest) -> _Models:
    request = context.request
    with _named("--model"):
        artifact = link_artifact(context, wanted.model, context.root / "artifact")
    base = _base(context, wanted, artifact)
    with _named("--model"):
        tokenizer = _tokenizer(artifact, base)
    _refuse_other_tokenizer(tokenizer, base)
    device = choose_device(request)
    return _Models(artifact, base, tokenizer, device, *_precision(request, wanted, artifact, device))


def _evaluate(
    models: _Models, sets: Sequence[GeneratedSet], report: Callable[[str], None]
) -> tuple[list[SetResult] | None, list[SetResult]]:
    """Return the results of the base model, None if there is none, and those of the model."""
    base_model, base_results, artifact = None, None, models.artifact
    if models.base:
        report("evaluating the base model")
        with _loading("--base"):
            base_model = load_base(models.base.folder, models.dtype, models.device, models.quantization)
        base_results = evaluate(base_model, models.tokenizer, sets)
    report("evaluating the model")
    with _loading("--model"):
        model = load_artifact(base_model, artifact.folder, models.dtype, models.device)
    # A model of others may not name the end of a turn in its generation_config.json, as a version does.
    stops = stops_of(artifact.folder, models.tokenizer, models.base_folder) if artifact.evidence else None
    final_results = evaluate(model, models.tokenizer, sets, stops=stops)
    del model, base_model
    free_memory()  # a published version may need the memory
    return base_results, final_results


def _request(root: Path) -> Request:
    """Return the request with the gates. Their error rates are not measured: this takes as long as many
    evaluations, and the result depends only on gate and base model."""
    request = make_request(root, *read_manifests(root)).without_error_rates
    accelerator = "GPU" if torch.cuda.is_available() else "CPU"
    resources = request.spec.resources.model_copy(update={"accelerator": accelerator})
    spec = request.spec.model_copy(update={"resources": resources})
    return request.model_copy(update={"spec": spec})


def _base(context: Context, wanted: GateRunRequest, artifact: GivenArtifact) -> _Base | None:
    """Return the base model. Raises :class:`UserError` if an adapter has none or another one."""
    if wanted.base is None:
        if is_adapter(artifact.folder):
            raise UserError("--model is an adapter", "name its base model with --base")
        return None
    has_versions = bool(context.request.spec.publish)
    has_pinned = any(gate.spec.pinned_version for gate in context.request.final_gates)
    with _named("--base"):
        folder, digest = given_base(context, wanted.base, stored=has_versions or has_pinned)
    known = artifact.evidence.base_model_digest if artifact.evidence else digest
    if known != digest and is_adapter(artifact.folder):
        raise UserError(
            f"--base has the digest {digest}, but the adapter was trained on the base model {known}",
            "name the base model with which the adapter was trained",
        )
    return _Base(folder, MeasuredModel(uri=str(wanted.base.uri), digest=digest))


def _tokenizer(artifact: GivenArtifact, base: _Base | None) -> PreTrainedTokenizerBase:
    """Return the tokenizer of the model. An adapter without a tokenizer has that of its base model."""
    if base is None or not is_adapter(artifact.folder):
        return load_model_tokenizer(artifact.folder, {})
    if any((artifact.folder / name).is_file() for name in _TOKENIZER_FILES):
        return load_tokenizer(artifact.folder, base.folder)
    return load_model_tokenizer(base.folder, {})


def _refuse_other_tokenizer(tokenizer: PreTrainedTokenizerBase, base: _Base | None) -> None:
    """Raise :class:`UserError` if the base model cannot read the tokens of ``tokenizer``. Both models get the
    same tokens."""
    if base is None:
        return
    with _named("--base"):
        of_base = load_model_tokenizer(base.folder, {})
    if of_base.get_vocab() != tokenizer.get_vocab():
        raise UserError(
            "--base and --model have tokenizers with different tokens, so their outputs cannot be compared",
            "name the base model with which the model was trained",
        )


def _precision(
    request: Request, wanted: GateRunRequest, artifact: GivenArtifact, device: torch.device
) -> tuple[str, str | None]:
    """Return dtype and quantization with which the models are loaded. A published version is loaded as it was
    evaluated before it was published, another model as the final gate of a job would load it."""
    adapter, evidence = is_adapter(artifact.folder), artifact.evidence
    quantization = wanted.quantization if adapter else None
    if wanted.quantization and not adapter:
        raise UserError("--quantization needs an adapter, but --model is a whole model")
    if quantization:
        require_bitsandbytes("--quantization is NF4")
    if evidence:
        return evidence.dtype, quantization or (evidence.quantization if adapter else None)
    if adapter:
        return base_dtype(request, request.spec.stages[-1]), quantization
    return (stored_dtype(artifact.folder) if device.type != "cpu" else "float32"), None


def _cases(
    sets: Sequence[GeneratedSet], results: Sequence[SetResult], base_results: Sequence[SetResult] | None
) -> dict[str, list[MeasuredCase]]:
    """Return the results of all cases by the name of their set."""
    found = {}
    for index, (each, result) in enumerate(zip(sets, results, strict=True)):
        ((measure, name),) = each.names.items()
        before = base_results[index].outcomes(measure) if base_results else None
        found[name] = [
            MeasuredCase(
                id=case.id,
                tags=list(case.tags),
                prompt=case.shown,
                expected=_expected(case),
                output=measured.output,
                outcome=measured.outcomes[measure],
                base_outcome=before[position] if before else None,
                explanation=measured.explanation,
            )
            for position, (case, measured) in enumerate(zip(each.cases, result.cases, strict=True))
        ]
    return found


def _expected(case: Case) -> str:
    source: Any = case.source
    if isinstance(source, SafetyCase):
        return str(source.kind)
    if isinstance(source, GoldenCase):
        written = [one.model_dump(mode="json", by_alias=True, exclude_unset=True) for one in source.expect]
        return json.dumps(written, ensure_ascii=False)
    return ""


@contextmanager
def _named(option: str, field: str = "model.uri: ") -> Iterator[None]:
    """Name the option instead of the field of a job in errors."""
    try:
        yield
    except TrainerError as error:
        raise type(error)(f"{option}: {str(error).removeprefix(field)}", error.hint) from error


@contextmanager
def _loading(option: str) -> Iterator[None]:
    """Raise :class:`UserError` if a model cannot be loaded."""
    try:
        yield
    except TrainerError:
        raise
    except Exception as error:  # libraries raise many kinds of errors for a model that they cannot load
        if is_out_of_memory(error):
            raise
        lines = str(error).strip().splitlines() or [""]
        reason = " ".join(line.strip() for line in lines[:2])
        raise UserError(f"{option} cannot be loaded: {type(error).__name__}: {reason}") from error


if __name__ == "__main__":
    sys.exit(main())
