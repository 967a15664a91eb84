"""Run all data checks on the text of files, without a model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunegate_api.contract.forecast import CheckedData
from tunegate_trainer.roles.check import check

_USES = {"train.jsonl": "Train", "pairs.jsonl": "Preference", "production.jsonl": "Production"}
_GOLDEN = "golden.jsonl"


def checked_files(
    files: Mapping[str, str], root: Path, **checks: Mapping[str, str]
) -> tuple[CheckedData, dict[str, Any]]:
    """Write ``files`` below ``root``, an empty folder, and return what the checks of a job find in them, and
    the content of data/report.json. ``checks`` are the job's ``data.checks``, by name.

    The names are those of the sets in tests/trainer/checks/sets.
    """
    for name, text in files.items():
        (root / name).write_text(text, encoding="utf-8")
    data: dict[str, Any] = {
        "goal": "StyleOrFormat",
        "checks": [{"name": name, **given} for name, given in checks.items()],
    }
    data["sources"] = [
        {"name": use.lower(), "use": use, "uri": (root / name).as_uri()}
        for name, use in _USES.items()
        if name in files
    ]
    stages: list[dict[str, Any]] = [{"name": "sft", "method": "SFT", "adapter": {"type": "LoRA"}}]
    if "pairs.jsonl" in files:
        stages.append({"name": "dpo", "method": "DPO", "adapter": {"from": "Previous"}})
    spec = {
        "model": {"uri": "file:///any"},
        "data": data,
        "taskMetrics": [{"name": "exact_match", "type": "ExactMatch", "min": "0%"}],
        "stages": stages,
        "gates": [{"name": "golden"}],
        "storage": {"persistentVolumeClaim": "any"},
    }
    job = {"apiVersion": "tunegate.dev/v1alpha2", "kind": "FineTuneJob", "metadata": {"name": "checked"}}
    (root / "job.json").write_text(json.dumps(job | {"spec": spec}))
    gates = []
    if _GOLDEN in files:
        cases = [json.loads(line) for line in files[_GOLDEN].splitlines()]
        sets = [{"name": "golden", "source": {"inline": cases}}]
        gates = [{"kind": "EvalGate", "metadata": {"name": "golden"}, "spec": {"sets": sets}}]
    (root / "gates.json").write_text(json.dumps(gates))
    (root / "workspace").mkdir()
    found = check(root, any_model=True)
    return found, json.loads((root / "checked" / "report.json").read_text())
