"""A job's root with the files of its roles, as the publish role and the report read them, without
training."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from support.graders import with_graders
from tunegate_api.cases.case_lines import inline_text
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.plan import (
    DataPlan,
    MixedPlan,
    ModelLicense,
    ModelPlan,
    Plan,
    SamplePlan,
    SplitPlan,
    StagePlan,
    TrainingParameters,
)
from tunegate_api.contract.process import Outcome, Role
from tunegate_api.contract.report import Report
from tunegate_api.contract.request import GateRequest, Request
from tunegate_api.contract.results import (
    ErrorRateOutcomes,
    Evaluation,
    Results,
    Subject,
    golden_set,
    task_set,
)
from tunegate_api.contract.workspace import Workspace
from tunegate_api.judging.review import ReviewRecord
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_api.v1alpha2.finetunejob import FineTuneJobSpec
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.verdict.outcomes import CaseSet
from tunegate_trainer.process.context import Context, Options
from tunegate_trainer.process.files import seal, write_model

UID = "3f2b9c1e-5d60-4000-8000-00000000abcd"
GATE = "invoice-golden"
MAX_INLINE = 100
"""The maximum number of cases in a golden set that is inline in the spec."""
NOW = datetime(2026, 11, 24, 15, 21, 8, tzinfo=UTC)
BASE_DIGEST = "b" * 64

Texts = Mapping[str, tuple[str, str]]
"""Prompt and output by case id."""


def golden_cases(ids: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"id": i, "tags": ["edge"], "prompt": f"prompt {i}", "expect": [{"type": "contains", "value": "x"}]}
        for i in ids
    ]


@dataclass
class JobFolder:
    """The root folder of one job with one gate. Outcomes have one letter per case."""

    root: Path
    name: str = "invoice-extractor"
    uid: str = UID
    golden_ids: Sequence[str] = tuple(f"case-{i}" for i in range(20))
    rows: int = 10
    """The number of dev rows, which is also the number of test rows."""
    stages: Sequence[str] = ("sft",)
    spec: dict[str, Any] = field(default_factory=dict)
    gate_spec: dict[str, Any] = field(default_factory=dict)
    last_published: dict[str, Any] | None = None
    checkpoint_steps: Sequence[int] = (20, 40, 60, 80, 100)
    warnings: Sequence[str] = ()
    weights: bytes = b"weights"
    has_adapter: bool = True
    quantization: Literal["NF4"] | None = None
    model_uri: str = "hf://org/small-instruct"
    auto_class: str = "AutoModelForCausalLM"
    license: ModelLicense | None = None
    mix: Sequence[MixedPlan] = ()
    review: SamplePlan | None = None
    """The review sample."""
    schemas_sha256: dict[str, str] = field(default_factory=dict)
    """The digests of the JSON schemas, by task metric."""

    @property
    def workspace(self) -> Path:
        return self.root / "workspace"

    @property
    def paths(self) -> Workspace:
        return Workspace(self.uid)

    @property
    def folder(self) -> Path:
        """The folder of this job on the volume."""
        return self.workspace / self.paths.job

    @property
    def artifact(self) -> Path:
        return self.workspace / self.paths.model

    def context(self, role: Role = Role.PUBLISH, *, digest: str | None = None) -> Context:
        return Context(role=role, options=Options(digest=digest), root=self.root)

    @property
    def request(self) -> Request:
        cases = golden_cases(self.golden_ids)
        spec = {
            "model": {"uri": "hf://org/small-instruct", "revision": "a09a354"},
            "data": {"goal": "TaskSpecialization", "sources": [{"name": "train", "configMap": "invoices"}]},
            "taskMetrics": [{"name": "exact_match", "type": "ExactMatch", "min": "80%"}],
            "stages": [{"name": s, "method": "SFT", "adapter": {"type": "LoRA"}} for s in self.stages],
            "gates": [{"name": GATE}],
            "storage": {"persistentVolumeClaim": "tuning"},
            "publish": [{"uri": "pvc://models/invoice-extractor"}],
            **self.spec,
        }
        inline = {"source": {"inline": cases}}
        from_file = {"source": {"configMap": "golden"}, "sha256": self.golden_sha256}
        given = dict(self.gate_spec)
        default = {"name": "golden", "rules": [{"name": "all", "minPassRate": "90%"}]}
        golden = default | (inline if len(cases) <= MAX_INLINE else from_file) | given.pop("golden", {})
        safety = [{"name": "safety", "kind": "Safety", **given.pop("safety")}] if "safety" in given else []
        graders = given.pop("graders", ())
        gate = with_graders({"sets": [golden, *safety], **given}, *graders)
        gate_request = {
            "name": GATE,
            "spec": EvalGateSpec.model_validate(gate),
            "golden_sha256": self.golden_sha256,
            "last_published": self.last_published,
        }
        return Request(
            name=self.name,
            namespace="default",
            uid=self.uid,
            spec=FineTuneJobSpec.model_validate(spec),
            gates=[GateRequest.model_validate(gate_request)],
        )

    @property
    def golden_sha256(self) -> str:
        return sha256_text(inline_text(golden_cases(self.golden_ids)))

    @property
    def plan(self) -> Plan:
        parameters = TrainingParameters(
            method="SFT",
            adapter="LoRA" if self.has_adapter else "None",
            lora_r=16 if self.has_adapter else None,
            lora_alpha=32 if self.has_adapter else None,
            lora_dropout=0.05 if self.has_adapter else None,
            target_modules=["all-linear"] if self.has_adapter else None,
            epochs=3,
            learning_rate=2e-4,
            scheduler="linear",
            warmup_steps=3,
            weight_decay=0.0,
            max_grad_norm=1.0,
            batch_size=32,
            pass_tokens=1536,
            max_length=2048,
            seed=7,
            dtype="bfloat16",
            quantization=self.quantization,
            optim="adamw_torch",
        )
        return Plan(
            job_uid=self.uid,
            model=ModelPlan(
                uri=self.model_uri,
                revision="a09a354",
                digest=BASE_DIGEST,
                parameters=134_515_008,
                auto_class=self.auto_class,
                license=self.license,
            ),
            data=DataPlan(
                source_sha256="5" * 64,
                train=SplitPlan(rows=1840, sha256="1" * 64),
                dev=SplitPlan(rows=self.rows, sha256="2" * 64),
                test=SplitPlan(rows=self.rows, sha256="3" * 64),
                dropped=12,
                mix=list(self.mix),
                review=self.review,
                schemas_sha256=self.schemas_sha256,
                warnings=list(self.warnings),
            ),
            stages=[
                StagePlan(
                    name=stage,
                    parameters=parameters,
                    total_steps=self.checkpoint_steps[-1],
                    checkpoint_steps=list(self.checkpoint_steps),
                    tokens=412_000,
                    gates=[GATE],
                )
                for stage in self.stages
            ],
            versions={"torch": "2.13.0", "transformers": "5.24.0", "peft": "0.21.0"},
        )

    # Write the files of each role

    def write_request(self) -> "JobFolder":
        write_model(self.root / "request" / "request.json", self.request)
        return self

    def write_data(self, report: object = None) -> "JobFolder":
        data = self.workspace / self.paths.data
        write_model(self.root / "plan" / "plan.json", self.plan)
        write_model(data / "plan.json", self.plan)
        (data / "report.json").write_text(json.dumps(report if report is not None else {"rows": 1852}))
        self.write_report(Role.DATA, plan=self.plan, outcome=Outcome.COMPLETED)
        return self

    def write_review(self, record: ReviewRecord) -> "JobFolder":
        """Write the scores with which the operator decided the review."""
        write_model(self.root / "review" / "review.json", record)
        return self

    def write_losses(self, stage: str, losses: Sequence[float], seconds: float = 2.0) -> None:
        folder = self.workspace / self.paths.stage(stage)
        folder.mkdir(parents=True, exist_ok=True)
        lines = [
            {"step": i + 1, "loss": loss, "learning_rate": 2e-4, "grad_norm": 1.0, "seconds": seconds}
            for i, loss in enumerate(losses)
        ]
        (folder / "losses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def write_checkpoint(
        self, stage: str, step: int, golden: str, dev: str, texts: Texts | None = None
    ) -> Evaluation:
        """Write the evaluation of a checkpoint, or of the starting model at step 0."""
        evaluation = Evaluation(
            subject=Subject.CHECKPOINT if step else Subject.START,
            stage=stage,
            step=step,
            loss=1.0 if step else None,
            digest=BASE_DIGEST,
            outcomes={golden_set(GATE): golden, task_set("dev", "exact_match"): dev},
        )
        folder = self.workspace / self.paths.evaluation(stage, step)
        self.write_cases(folder / f"golden-{GATE}.jsonl", golden, texts)
        self.write_cases(folder / "dev.jsonl", dev, texts, ids=self._row_ids("dev"), measure="exact_match")
        write_model(folder / "result.json", evaluation)
        return evaluation

    def write_training(self, stage: str, evaluations: Sequence[Evaluation], **report: Any) -> None:
        """Write the report of a train pod."""
        sets = {
            golden_set(GATE): self.golden_set,
            task_set("dev", "exact_match"): CaseSet(sha256="2" * 64, ids=self._row_ids("dev")),
        }
        results = Results(sets=sets, evaluations=list(evaluations))
        self.write_report(Role.TRAIN, stage=stage, results=results, **report)

    def write_artifact(self) -> str:
        """Write the artifact in place of an earlier one, and return its digest."""
        shutil.rmtree(self.artifact, ignore_errors=True)
        self.artifact.mkdir(parents=True)
        weights, config = ("adapter_model", "adapter_config") if self.has_adapter else ("model", "config")
        (self.artifact / f"{weights}.safetensors").write_bytes(self.weights)
        (self.artifact / f"{config}.json").write_text("{}\n")
        (self.artifact / "tokenizer_config.json").write_text('{"chat_template": "x"}\n')
        (self.artifact / "generation_config.json").write_text('{"eos_token_id": []}\n')
        return seal(self.artifact).digest

    def write_gate(
        self,
        *,
        base: tuple[str, str],
        final: tuple[str, str],
        base_texts: Texts | None = None,
        texts: Texts | None = None,
        step: int = 100,
        evaluated: dict[str, int] | None = None,
        error_rate: ErrorRateOutcomes | None = None,
    ) -> str:
        """Write an artifact with the gate's results on the golden set and test rows. Return the artifact's
        digest."""
        digest = self.write_artifact()
        folder = self.workspace / self.paths.gate
        evaluations = []
        for subject, prefix, (golden, test), shown in (
            (Subject.BASE, "base-", base, base_texts),
            (Subject.FINAL, "", final, texts),
        ):
            evaluations.append(
                Evaluation(
                    subject=subject,
                    stage=self.stages[-1],
                    step=step if subject is Subject.FINAL else 0,
                    digest=digest if subject is Subject.FINAL else BASE_DIGEST,
                    outcomes={golden_set(GATE): golden, task_set("test", "exact_match"): test},
                )
            )
            self.write_cases(folder / f"{prefix}golden-{GATE}.jsonl", golden, shown)
            self.write_cases(
                folder / f"{prefix}test.jsonl",
                test,
                shown,
                ids=self._row_ids("test"),
                measure="exact_match",
            )
        result = {
            "stage": self.stages[-1],
            "step": step,
            "evaluated": evaluated or {},
            "artifact": digest,
            "weights": "6" * 64,
            "device": "NVIDIA L4",
            "dtype": "bfloat16",
            "quantization": self.quantization,
            "generation": {
                name: self.request.generation_of(self.request.gates[0]).to_wire()
                for name in (golden_set(GATE), task_set("test", "exact_match"))
            },
            "evaluations": [e.model_dump(mode="json", by_alias=True) for e in evaluations],
            "verdicts": [],
            "verdict": "Passed",
            "errorRates": {GATE: error_rate.to_wire()} if error_rate else None,
        }
        (folder / "result.json").write_text(json.dumps(result))
        sets = {
            golden_set(GATE): self.golden_set,
            task_set("test", "exact_match"): CaseSet(sha256="3" * 64, ids=self._row_ids("test")),
        }
        rates = {GATE: error_rate} if error_rate else None
        results = Results(sets=sets, evaluations=evaluations, error_rates=rates)
        self.write_report(Role.GATE, results=results)
        return digest

    def write_report(self, role: Role, *, failure: Failure | None = None, **changes: Any) -> None:
        report = Report(
            job_uid=self.uid, role=role, attempt=1, sequence=1, time=NOW, failure=failure, **changes
        )
        write_model(self.workspace / self.paths.outbox / report.file_name, report)

    @property
    def golden_set(self) -> CaseSet:
        return CaseSet(sha256=self.golden_sha256, ids=list(self.golden_ids))

    def write_cases(
        self,
        path: Path,
        outcomes: str,
        texts: Texts | None = None,
        *,
        ids: Sequence[str] | None = None,
        measure: str = "golden",
    ) -> None:
        """Write a file with one line per case, like the trainer's file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = []
        for case_id, outcome in zip(ids or self.golden_ids, outcomes, strict=True):
            prompt, output = (texts or {}).get(case_id, (f"prompt {case_id}", f"output {case_id} {outcome}"))
            lines.append(
                {
                    "id": case_id,
                    "tags": ["edge"],
                    "prompt": prompt,
                    "output": output,
                    "truncated": outcome == "t",
                    "passed": outcome == "p",
                    "outcomes": {measure: outcome},
                    "explanation": "" if outcome == "p" else "does not contain 'x'",
                }
            )
        path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

    def _row_ids(self, split: str) -> list[str]:
        return [f"{split}-{i}" for i in range(self.rows)]
