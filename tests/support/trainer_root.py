"""The root folder of a trainer process with request, plan, data and model, which tests can change."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from support.graders import PEOPLE, with_graders
from tunegate_api.cases.case_lines import written_text
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.plan import (
    DataPlan,
    ModelPlan,
    Plan,
    PreferencePlan,
    SplitPlan,
    StagePlan,
    TrainingParameters,
)
from tunegate_api.contract.process import Role
from tunegate_api.contract.report import Report
from tunegate_api.contract.request import GateRequest, Request
from tunegate_api.contract.results import Evaluation
from tunegate_api.contract.workspace import PAIRS_PREFIX, Workspace
from tunegate_api.messages import Message
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_api.v1alpha2.finetunejob import FineTuneJobSpec
from tunegate_api.v1alpha2.sets import GateSet
from tunegate_trainer.evaluate.config_map_files import metric_schema, schema_sha256
from tunegate_trainer.process.context import Context, Options
from tunegate_trainer.process.files import seal, sha256_file, write_model
from tunegate_trainer.process.interruption import Interruption
from tunegate_trainer.tokens.rows import Pair, Row, write_rows

UID = "0f7c9c1e-0000-4000-8000-000000000001"
STAGE = "sft"
ITEMS = ("mug", "lamp", "chair", "desk", "pen", "cup")

ALL_WEIGHTS: dict[str, Any] = {
    "adapter": "None",
    "lora_r": None,
    "lora_alpha": None,
    "lora_dropout": None,
    "target_modules": None,
    "learning_rate": 3e-3,
}
"""Parameters of a stage that trains all weights."""

Cases = list[dict[str, Any]]


def rows(split: str, count: int, *, completion: str = "yes") -> list[Row]:
    """Return prompts of different lengths with the same answer, which a tiny model learns in a few steps."""
    return [
        Row(
            id=f"{split}-{i}",
            prompt=[Message(role="user", content=f"{split} order {i}: " + " ".join(ITEMS[: 1 + i % 6]))],
            completion=completion,
        )
        for i in range(count)
    ]


def pairs(split: str, count: int) -> list[Pair]:
    """Return prompts of different lengths with the same chosen and rejected answers."""
    return [
        Pair(id=row.id, prompt=row.prompt, chosen=row.completion, rejected="no thanks")
        for row in rows(f"pair-{split}", count)
    ]


def golden_cases(count: int = 20, *, expect: str = "yes") -> Cases:
    """Return cases that a model passes once it has learned the answer."""
    return [
        {
            "id": f"case-{i}",
            "tags": ["even" if i % 2 == 0 else "odd"],
            "prompt": f"golden order {i} {ITEMS[i % 6]}",
            "expect": [{"type": "equals", "value": expect}],
        }
        for i in range(count)
    ]


def orders_spec(model: Path, data: Mapping[str, Any], /, **spec: Any) -> dict[str, Any]:
    """Return the changes that make a job train ``model`` on the rows of the ConfigMap ``orders``. ``data``
    and ``spec`` have further fields. Sources in ``data`` are added, or replace the one of the same name."""
    sources = {
        source["name"]: source
        for source in ({"name": "train", "configMap": "orders"}, *data.get("sources", ()))
    }
    orders = {
        "goal": "StyleOrFormat",
        "sizePolicy": "Warn",
        "heldOut": {"fraction": "20%"},
    }
    data = {**orders, **data, "sources": list(sources.values())}
    return {"model": {"uri": f"file://{model}"}, "data": data, **spec}


@dataclass
class TrainerRoot:
    """The root folder of one job, ready for :func:`tunegate_trainer.main.main`."""

    path: Path
    name: str = field(default="orders", kw_only=True)
    parameters: dict[str, Any] = field(default_factory=dict)
    checkpoint_steps: Sequence[int] = (3, 6)
    gates: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    required_gates: Sequence[str] = ()
    """The gates that the namespace or the cluster requires."""
    """EvalGateSpecs in wire form, by name."""
    spec: dict[str, Any] = field(default_factory=dict)
    """Changes to the FineTuneJobSpec."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """The texts of mounted ConfigMaps, by NAME/KEY."""
    parallelism: Literal["DDP", "FSDP"] | None = None
    """How the first stage is distributed."""
    activation_checkpointing: bool | None = None
    """Whether the first stage recomputes activations."""
    later: Sequence[StagePlan] = ()
    """The plans of the stages after the first stage."""

    @property
    def workspace(self) -> Path:
        return self.path / "workspace"

    @property
    def paths(self) -> Workspace:
        return Workspace(UID)

    @property
    def stage_folder(self) -> Path:
        return self.workspace / self.paths.stage(STAGE)

    @property
    def base_model(self) -> Path:
        return self.workspace / Workspace.base_model(self.context().plan.model.digest)

    @property
    def data(self) -> Path:
        return self.workspace / self.paths.data

    def checkpoint(self, step: int, stage: str = STAGE) -> Path:
        return self.workspace / self.paths.checkpoint(stage, step)

    def context(
        self,
        role: Role = Role.TRAIN,
        attempt: int = 1,
        *,
        stage: str = STAGE,
        interruption: Interruption | None = None,
        **options: Any,
    ) -> Context:
        """Return the context of one process of a role. ``options`` are its command line options."""
        return Context(
            role=role,
            attempt=attempt,
            options=Options(stage=stage, **options),
            interruption=interruption or Interruption(),
            root=self.path,
        )

    def losses(self, stage: str = STAGE) -> list[float]:
        return [line["loss"] for line in self.loss_lines(stage)]

    def loss_lines(self, stage: str = STAGE) -> list[dict[str, Any]]:
        """Return the loss file's line for each optimizer step."""
        lines = (self.workspace / self.paths.stage(stage) / "losses.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def evaluation(self, step: int, stage: str = STAGE) -> Evaluation:
        folder = self.workspace / self.paths.evaluation(stage, step)
        return Evaluation.model_validate_json((folder / "result.json").read_bytes())

    def evaluated_steps(self) -> list[int]:
        folder = self.workspace / self.paths.evaluation(STAGE, 0).parent
        return sorted(int(p.parent.name.removeprefix("step-")) for p in folder.glob("step-*/result.json"))

    def report(self, role: Role = Role.TRAIN) -> Report:
        return Report.model_validate_json(self.context(role).report_file.read_bytes())

    def write(self, model: Path) -> "TrainerRoot":
        """Write all files below ``path``. ``model`` is copied."""
        for name, text in self.inputs.items():
            (self.path / "inputs" / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / "inputs" / name).write_text(text)
        digest = sha256_file(model / "model.safetensors")
        seal(shutil.copytree(model, self.workspace / Workspace.base_model(digest)))
        for split, count in (("train", 24), ("dev", 6), ("test", 6)):
            write_rows(self.data / f"{split}.jsonl", rows(split, count))
            write_rows(self.data / f"{PAIRS_PREFIX}{split}.jsonl", pairs(split, count))
        self.write_request()
        write_model(self.path / "plan" / "plan.json", self._plan(digest))
        return self

    def write_request(self) -> None:
        write_model(self.path / "request" / "request.json", self._request())

    def write_for_data(self, model: Path) -> "TrainerRoot":
        """Write only the files that the data role reads."""
        self.write(model)
        shutil.rmtree(self.workspace)
        shutil.rmtree(self.path / "plan")
        return self

    def _request(self) -> Request:
        gates = self.gates or {"orders": gate_spec()}
        spec = {
            "model": {"uri": "package://tiny"},
            "data": {
                "goal": "StyleOrFormat",
                "sources": [
                    {"name": "train", "configMap": "orders", "key": "train.jsonl"},
                    {
                        "name": "preference",
                        "use": "Preference",
                        "configMap": "orders",
                        "key": "preference.jsonl",
                    },
                ],
            },
            "taskMetrics": [{"name": "exact_match", "type": "ExactMatch", "min": "50%"}],
            "stages": [
                {"name": STAGE, "method": "SFT", "adapter": {"type": "LoRA"}},
                *({"name": stage.name, "method": stage.parameters.method} for stage in self.later),
            ],
            "gates": [{"name": name} for name in gates],
            "resources": {"accelerator": "CPU"},
            "storage": {"persistentVolumeClaim": "tuning"},
            **self.spec,
        }
        return Request(
            name=self.name,
            namespace="default",
            uid=UID,
            spec=FineTuneJobSpec.model_validate(spec),
            gates=[self._gate_request(name, EvalGateSpec.model_validate(g)) for name, g in gates.items()],
        )

    def _gate_request(self, name: str, spec: EvalGateSpec) -> GateRequest:
        return GateRequest(
            name=name,
            spec=spec,
            golden_sha256=self._set_sha256(spec.golden) or "",
            required=name in self.required_gates,
            safety_sha256=self._set_sha256(spec.safety) if spec.safety else None,
        )

    def _set_sha256(self, part: GateSet) -> str | None:
        source, text = part.source, written_text(part.source)
        if source.uri is not None:
            return part.sha256
        if text is None:
            folder = f"{source.config_map}/"
            of_map = {name: text for name, text in self.inputs.items() if name.startswith(folder)}
            text = of_map.get(f"{folder}{source.key}") or next(iter(of_map.values()))
        return sha256_text(text)

    def _plan(self, digest: str) -> Plan:
        splits = {name: self._split(name) for name in ("train", "dev", "test")}
        pairs = {name: self._split(f"{PAIRS_PREFIX}{name}") for name in splits}
        preference = PreferencePlan(source_sha256="1" * 64, **pairs)
        gates = list(self.gates) or ["orders"]
        first = stage_plan(STAGE, self.checkpoint_steps, gates=gates, **self.parameters)
        first = first.model_copy(
            update={
                "parallelism": self.parallelism,
                "activation_checkpointing": self.activation_checkpointing,
            }
        )
        metrics = self._request().spec.task_metrics
        schemas = {metric.name: metric_schema(self.path, metric) for metric in metrics}
        return Plan(
            job_uid=UID,
            model=ModelPlan(uri="package://tiny", digest=digest, parameters=100_000),
            data=DataPlan(
                source_sha256="0" * 64,
                dropped=0,
                preference=preference,
                schemas_sha256={
                    name: schema_sha256(schema) for name, schema in schemas.items() if schema is not None
                },
                **splits,
            ),
            stages=[first, *self.later],
            versions={"torch": "tiny"},
        )

    def _split(self, name: str) -> SplitPlan:
        path = self.data / f"{name}.jsonl"
        return SplitPlan(rows=len(path.read_text().splitlines()), sha256=sha256_file(path))


def data_root(model: Path, path: Path, *targets: str, **changes: Any) -> TrainerRoot:
    """Return a root in which the data role plans one stage with LoRA. ``targets`` are the layers that a user
    names, and ``changes`` are other fields of the stage."""
    adapter = {"type": "LoRA"} | ({"targetModules": [*targets]} if targets else {})
    training = {"maxSteps": 2, "learningRate": "0.01", "batchSize": 4, "maxLength": 64}
    lines = "".join(f'{{"prompt": "order {i} mugs", "completion": "yes"}}\n' for i in range(24))
    return TrainerRoot(
        path,
        inputs={"orders/train.jsonl": lines},
        spec={
            "model": {"uri": f"file://{model}"},
            "data": {
                "goal": "StyleOrFormat",
                "sources": [{"name": "train", "configMap": "orders"}],
                "sizePolicy": "Warn",
            },
            "evaluation": {"every": 2},
            "stages": [{"name": STAGE, "method": "SFT", "adapter": adapter, "training": training, **changes}],
        },
    ).write_for_data(model)


def stage_plan(
    name: str,
    checkpoint_steps: Sequence[int] = (3, 6),
    *,
    starts_from: Literal["Adapter", "Merged"] | None = None,
    gates: Sequence[str] = ("orders",),
    **parameters: Any,
) -> StagePlan:
    """Return the plan of a small stage that learns quickly."""
    resolved = {
        "method": "SFT",
        "adapter": "LoRA",
        "lora_r": 8,
        "lora_alpha": 16,
        "lora_dropout": 0.1,
        "target_modules": ["all-linear"],
        "epochs": 1,
        "learning_rate": 1e-2,
        "scheduler": "linear",
        "warmup_steps": 1,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "batch_size": 4,
        "pass_tokens": 1024,
        "max_length": 128,
        "seed": 42,
        "dtype": "float32",
        "optim": "adamw_torch",
        **parameters,
    }
    return StagePlan(
        name=name,
        starts_from=starts_from,
        parameters=TrainingParameters.model_validate(resolved),
        total_steps=checkpoint_steps[-1],
        checkpoint_steps=list(checkpoint_steps),
        tokens=1000,
        gates=list(gates),
    )


def dpo_plan(name: str = "dpo", checkpoint_steps: Sequence[int] = (3, 6), **changes: Any) -> StagePlan:
    """Return the plan of a DPO stage that continues to train the adapter of the previous stage."""
    settings = {
        "starts_from": "Adapter",
        "method": "DPO",
        "beta": 0.1,
        "loss": "sigmoid",
        "lora_dropout": 0.0,
        "learning_rate": 5e-3,
    }
    return stage_plan(name, checkpoint_steps, **(settings | changes))


ROWS_OF_ORDERS = {"name": "train", "configMap": "orders", "key": "train.jsonl"}
PAIRS_OF_ORDERS = {"name": "preference", "use": "Preference", "configMap": "orders", "key": "pairs.jsonl"}
"""Sources of a job whose ConfigMap ``orders`` has both its rows and its pairs."""


def safety_set(**fields: Any) -> dict[str, Any]:
    """Return a safety set."""
    return {"name": "safety", "kind": "Safety"} | fields


def gate_spec(
    cases: Cases | None = None,
    *,
    limits: Mapping[str, str] | None = None,
    critical: Sequence[str] = (),
    golden: Mapping[str, Any] | None = None,
    safety: Mapping[str, Any] | None = None,
    graders: Sequence[dict[str, Any]] = (),
    **changes: Any,
) -> dict[str, Any]:
    """Return an EvalGateSpec with an inline golden set and short outputs. A model can pass it with two golden
    cases or more. ``limits`` are those of all cases, and ``critical`` cases must always pass. ``golden`` are
    other fields of the golden set, and ``safety`` is a safety set. With a judge among the ``graders``, the
    ConfigMap ``scored`` has the answers that people scored."""
    rules: list[dict[str, Any]] = [{"name": "all", **(limits or {"failAtDrop": "50%"})}]
    if critical:
        rules.append({"name": "critical", "cases": [*critical], "minPassRate": "100%"})
    default = {"name": "golden", "source": {"inline": cases or golden_cases()}, "rules": rules}
    spec = {
        "sets": [default | dict(golden or {}), *([safety_set(**safety)] if safety else [])],
        "generation": {"maxNewTokens": 6},
        **changes,
    }
    return with_graders(spec, *graders, people=PEOPLE | {"sha256": None})
