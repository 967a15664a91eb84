"""Build manifests for tests, valid by default: ``make_job().with_publish().obj()``."""

import copy
import json
from typing import Any

from tunegate_api.contract.digests import sha256_text

Object = dict[str, Any]

GOLDEN_CASES = 100


def golden_text(cases: int = GOLDEN_CASES) -> str:
    """Return a golden set whose cases have the ids case-0, case-1, …"""
    expect = [{"type": "contains", "value": "yes"}]
    rows = [
        {"id": f"case-{i}", "tags": [], "prompt": f"question {i}", "expect": expect} for i in range(cases)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


class _Builder:
    def __init__(self, obj: Object) -> None:
        self._obj = obj

    @property
    def spec(self) -> Object:
        return self._obj["spec"]

    def obj(self) -> Object:
        return copy.deepcopy(self._obj)

    def named(self, name: str) -> "Any":
        self._obj["metadata"]["name"] = name
        return self

    def with_spec(self, **fields: Any) -> "Any":
        """Set fields of the spec. The names of the arguments are those in YAML."""
        self.spec.update(fields)
        return self

    def without(self, field: str) -> "Any":
        self.spec.pop(field, None)
        return self


class JobBuilder(_Builder):
    def with_training(self, **fields: Any) -> "JobBuilder":
        self.spec["stages"][0]["training"].update(fields)
        return self

    def with_gates(self, *names: str) -> "JobBuilder":
        self.spec["gates"] = [{"name": name} for name in names]
        return self

    def with_publish(self, uri: str = "pvc://models/orders") -> "JobBuilder":
        self.spec["publish"] = [{"uri": uri}]
        return self


class GateBuilder(_Builder):
    def with_golden(self, **fields: Any) -> "GateBuilder":
        """Set fields of the golden set."""
        self.spec["sets"][0].update(fields)
        return self

    def with_limits(self, **limits: str) -> "GateBuilder":
        """Set limits for all cases that count."""
        self.spec["sets"][0]["rules"][0].update(limits)
        return self

    def with_critical(self, *cases: str) -> "GateBuilder":
        """Add a rule that these cases must always pass."""
        rule = {"name": "critical", "cases": [*cases], "minPassRate": "100%"}
        self.spec["sets"][0]["rules"].append(rule)
        return self

    def with_safety(self, **fields: Any) -> "GateBuilder":
        """Add a safety set."""
        self.spec["sets"].append({"name": "safety", "kind": "Safety", **fields})
        return self


def make_job(name: str = "orders") -> JobBuilder:
    return JobBuilder(
        {
            "apiVersion": "tunegate.dev/v1alpha2",
            "kind": "FineTuneJob",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "model": {"uri": "package://tiny"},
                "data": {"goal": "StyleOrFormat", "sources": [{"name": "train", "configMap": "rows"}]},
                "taskMetrics": [{"name": "exact_match", "type": "ExactMatch", "min": "50%"}],
                "stages": [
                    {
                        "name": "sft",
                        "method": "SFT",
                        "adapter": {"type": "LoRA"},
                        "training": {"maxSteps": 50},
                    }
                ],
                "gates": [{"name": "golden"}],
                "resources": {"accelerator": "CPU"},
                "storage": {"persistentVolumeClaim": "tuning"},
            },
        }
    )


def make_gate(name: str = "golden", config_map: str = "cases") -> GateBuilder:
    return GateBuilder(
        {
            "apiVersion": "tunegate.dev/v1alpha2",
            "kind": "EvalGate",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "sets": [
                    {
                        "name": "golden",
                        "source": {"configMap": config_map},
                        "sha256": sha256_text(golden_text()),
                        "rules": [{"name": "all", "minPassRate": "80%"}],
                    }
                ],
            },
        }
    )


def make_config_map(name: str, **data: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default"},
        "data": {key.replace("__", "."): value for key, value in data.items()},
    }


def make_namespace(required_gates: str | None = None, name: str = "default") -> Object:
    """Build a Namespace whose annotation requires gates. If ``required_gates`` is None, there is no
    annotation."""
    annotations = {} if required_gates is None else {"tunegate.dev/required-gates": required_gates}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "namespace": name, "annotations": annotations},
    }


def make_scores(name: str, sample: str, job: str = "orders", reviewer: str = "ana", **scores: Any) -> Object:
    """Build a ConfigMap with the scores of one reviewer. The name of each argument in ``scores`` is the id of
    a row."""
    document = {"sample": sample, "reviewer": reviewer, "scores": scores}
    config_map = make_config_map(name, scores__json=json.dumps(document))
    config_map["metadata"]["labels"] = {"tunegate.dev/review": job}
    return config_map
