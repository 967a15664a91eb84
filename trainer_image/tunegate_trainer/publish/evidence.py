"""Write the evidence of a published model: the verdict, its numbers, the plan, and a model card."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from pydantic import ValidationError

from tunegate_api.contract.digests import FileManifest
from tunegate_api.contract.plan import Plan
from tunegate_api.contract.request import Request
from tunegate_api.contract.results import golden_set, task_set
from tunegate_api.judging.approval import verdict_digest
from tunegate_api.judging.judgement import GateJudgement, Judgement, TaskJudgement
from tunegate_api.judging.selection import selection_text
from tunegate_api.meta import Sha256
from tunegate_api.v1alpha2.evaluation_status import PersonDecision
from tunegate_api.verdict.bar import SAFETY_RULES
from tunegate_api.verdict.counts import COUNTED
from tunegate_api.verdict.outcomes import points_text, rate, rate_text, threshold_text
from tunegate_trainer.artifacts.evidence import (
    CARD,
    EVIDENCE,
    VERDICT,
    BaselineEvidence,
    FindingEvidence,
    GateEvidence,
    ReviewEvidence,
    TaskEvidence,
    VerdictEvidence,
)
from tunegate_trainer.artifacts.gate_result import GateRoleResult
from tunegate_trainer.process.files import write_atomic, write_model
from tunegate_trainer.publish.endpoint_outputs import endpoint_evidence, write_endpoint_outputs
from tunegate_trainer.publish.parameters import parameter_rows
from tunegate_trainer.publish.safety_evidence import safety_evidence
from tunegate_trainer.tokens.rows import PREFERENCE

_TASK = "text-generation"
"""The task of the model, as the model hub names it."""


def write_evidence(
    folder: Path,
    *,
    request: Request,
    plan: Plan,
    judgement: Judgement,
    measured: GateRoleResult,
    gate_folder: Path,
    manifest: FileManifest,
    review: ReviewEvidence | None,
    decision: PersonDecision | None = None,
) -> None:
    """Write ``evidence/`` and the model card into ``folder``, which has the weights. ``gate_folder`` has the
    outputs of endpoints.

    Raises :class:`UserError` if these outputs were changed after the gate role had written them.
    """
    data = plan.data
    splits = {"train": data.train, "dev": data.dev, "test": data.test}
    pairs = data.preference
    verdict = VerdictEvidence(
        job=request.name,
        namespace=request.namespace,
        uid=request.uid,
        time=datetime.now(UTC),
        stage=measured.stage,
        step=measured.step,
        selection=selection_text(measured.evaluated, request, judgement) or None,
        artifact_digest=manifest.digest,
        artifact_files=manifest.files,
        weights_digest=measured.weights,
        device=measured.device,
        dtype=measured.dtype,
        quantization=measured.quantization,
        base_model=plan.model.uri,
        base_model_digest=plan.model.digest,
        sources_sha256=_sources(request, plan),
        data_sha256={name: split.sha256 for name, split in splits.items()},
        preference_sha256={name: getattr(pairs, name).sha256 for name in splits} if pairs else {},
        review=review,
        verdict=judgement.state,
        verdict_digest=verdict_digest(judgement),
        decision=decision,
        gates=_gates(judgement, measured),
        task_metrics=[
            _task_evidence(t, measured, task_set("test", t.name), data.schemas_sha256.get(t.name))
            for t in judgement.tasks
        ],
    )
    write_endpoint_outputs(folder, gate_folder, measured)
    write_model(folder / EVIDENCE / "plan.json", plan)
    write_model(folder / VERDICT, verdict)
    card = model_card(
        request, plan, verdict, has_chat_template=_has_chat_template(folder), stops=_stops(folder)
    )
    write_atomic(folder / CARD, card)


def _sources(request: Request, plan: Plan) -> dict[str, Sha256]:
    """Return the digest of each data source, by its name."""
    data, planned = request.spec.data, plan.data
    found = {data.train.name: planned.source_sha256}
    found |= {mixed.name: mixed.source_sha256 for mixed in planned.mix}
    if data.preference and planned.preference:
        found[data.preference.name] = planned.preference.source_sha256
    if data.production and planned.production:
        found[data.production.name] = planned.production.source_sha256
    return found


def is_described(folder: Path, judgement: Judgement, measured: GateRoleResult) -> bool:
    """Return whether ``folder`` has readable evidence, with the same gate results as ``judgement``."""
    try:
        written = VerdictEvidence.model_validate_json((folder / VERDICT).read_bytes())
    except (FileNotFoundError, ValidationError):
        return False
    return [g.to_wire() for g in written.gates] == [g.to_wire() for g in _gates(judgement, measured)]


def model_card(
    request: Request,
    plan: Plan,
    verdict: VerdictEvidence,
    *,
    has_chat_template: bool,
    stops: Sequence[int],
) -> str:
    """Return the model card: Markdown with the front matter that model hubs read.

    ``stops`` are the ids of the stop tokens, ``eos_token_id`` in the artifact's generation_config.json.
    """
    uri = plan.model.uri
    is_adapter = "adapter_config.json" in verdict.artifact_files
    return _TEMPLATES.get_template("README.md.j2").render(
        request=request,
        plan=plan,
        verdict=verdict,
        base=uri.removeprefix("hf://"),
        on_hub=uri.startswith("hf://"),
        front_matter=_front_matter(request.name, plan, verdict, is_adapter=is_adapter),
        auto_class=plan.model.auto_class,
        has_chat_template=has_chat_template,
        stops=stops,
        is_adapter=is_adapter,
        parameters=parameter_rows(plan.stages),
        safety_rules=SAFETY_RULES,
        max_new_tokens=max(gate.spec.generation.max_new_tokens for gate in request.final_gates),
    )


def _front_matter(name: str, plan: Plan, verdict: VerdictEvidence, *, is_adapter: bool) -> str:
    """Return the YAML front matter of the model card, in the format of the Hugging Face Hub.

    Unknown fields are left out: ``license`` if the base model's license is unknown, and ``base_model`` if the
    base model is not on a hub.
    """
    methods = [stage.parameters.method.lower() for stage in plan.stages]
    uri, license = plan.model.uri, plan.model.license
    data = ModelCardData(
        base_model=uri.removeprefix("hf://") if uri.startswith("hf://") else None,
        library_name="peft" if is_adapter else "transformers",
        license=license.id if license else None,
        license_name=license.name if license else None,
        license_link=license.link if license else None,
        pipeline_tag=_TASK,
        tags=sorted({"tunegate", *methods, *(("peft", "lora") if is_adapter else ())}),
        model_name=name,
        eval_results=[*_of_gates(verdict), *_of_task_metrics(plan, verdict)],
    )
    return data.to_yaml()


def _of_gates(verdict: VerdictEvidence) -> list[EvalResult]:
    return [
        EvalResult(
            task_type=_TASK,
            dataset_type="golden-set",
            dataset_name=f"golden set {gate.name}" + (" (dry run)" if gate.dry_run else ""),
            dataset_config=gate.name,
            dataset_revision=gate.golden_sha256,
            metric_type="pass_rate",
            metric_name="pass rate",
            metric_value=_rate(gate.passed, gate.total),
            metric_args={"passed": gate.passed, "total": gate.total},
        )
        for gate in verdict.gates
        if gate.total
    ]


def _of_task_metrics(plan: Plan, verdict: VerdictEvidence) -> list[EvalResult]:
    rows, pairs = ("held-out-rows", "held-out rows", plan.data.test.sha256), plan.data.preference
    sets = {PREFERENCE: ("held-out-pairs", "held-out pairs", pairs.test.sha256)} if pairs else {}
    results = []
    for task in verdict.task_metrics:
        kind, name, digest = sets.get(task.type, rows)
        counted = task.type in COUNTED
        if task.total:
            results.append(
                EvalResult(
                    task_type=_TASK,
                    dataset_type=kind,
                    dataset_name=name,
                    dataset_split="test",
                    dataset_revision=digest,
                    metric_type=task.name,
                    metric_value=float(task.rate) if counted else _rate(task.passed, task.total),
                    metric_args=({} if counted else {"passed": task.passed}) | {"total": task.total},
                )
            )
    return results


def _rate(passed: int, total: int) -> float:
    """Return the rate, rounded down to four digits. Rounded up, a rate just below a threshold could look as
    if it had reached it."""
    return int(Fraction(passed, total) * 10_000) / 10_000


def _gates(judgement: Judgement, measured: GateRoleResult) -> list[GateEvidence]:
    return [_gate_evidence(gate, measured) for gate in judgement.gates]


def _gate_evidence(gate: GateJudgement, measured: GateRoleResult) -> GateEvidence:
    verdict = gate.verdict
    deltas: Mapping[str, Any] = verdict.delta_points or {}
    return GateEvidence(
        name=gate.name,
        golden_sha256=gate.cases.sha256,
        generation=measured.generation.get(golden_set(gate.name)),
        passed=verdict.passed,
        total=verdict.total,
        outcomes=gate.outcomes,
        rate=rate_text(rate(verdict.passed, verdict.total)),
        baselines={
            name: BaselineEvidence(passed=gate.baselines[name], delta_points=points_text(delta))
            for name, delta in deltas.items()
        },
        skipped=list(gate.skipped),
        endpoint=endpoint_evidence(gate.name, measured),
        judge=measured.judges.get(gate.name),
        guardrail=measured.guardrails.get(gate.name),
        safety=safety_evidence(gate, measured),
        error_rate=gate.error_rate.error_rate if gate.error_rate else None,
        dry_run=gate.dry_run,
        verdict=verdict.state,
        findings=[FindingEvidence(rule=f.rule, state=f.state, message=f.message) for f in verdict.findings],
    )


def _task_evidence(
    task: TaskJudgement, measured: GateRoleResult, test_set: str, schema_sha256: Sha256 | None
) -> TaskEvidence:
    return TaskEvidence(
        name=task.name,
        type=task.type,
        schema_sha256=schema_sha256,
        generation=measured.generation.get(test_set),
        passed=task.passed,
        total=task.total,
        rate=rate_text(task.value),
        min=threshold_text(task.minimum),
        base_passed=task.base_passed,
        verdict=task.finding.state,
        message=task.finding.message,
    )


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").exists():
        return True
    config = folder / "tokenizer_config.json"
    return config.exists() and bool(json.loads(config.read_text(encoding="utf-8")).get("chat_template"))


def _stops(folder: Path) -> list[int]:
    config = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    stops: list[int] = config["eos_token_id"]
    return stops


def _cell(text: object) -> str:
    """Return text that is escaped for a cell of a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


_TEMPLATES = Environment(
    loader=PackageLoader("tunegate_trainer.publish"),
    autoescape=select_autoescape(("html",)),  # not for Markdown: the filter `cell` escapes table cells
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)
_TEMPLATES.filters["quoted"] = lambda text: json.dumps(text, ensure_ascii=False)
_TEMPLATES.filters["cell"] = _cell
