"""Read the manifests of a command, and return the request that the operator would record for them."""

import json
from pathlib import Path

from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.process import Role
from tunegate_api.contract.request import GateRequest, Request
from tunegate_api.v1alpha2 import EvalGate, FineTuneJob
from tunegate_api.v1alpha2.case_source import SetName
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_trainer.evaluate.gate_sets import set_text
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import SourceNotFoundError


def read_manifests(root: Path) -> tuple[FineTuneJob, list[EvalGate]]:
    """Return the job in ``job.json`` and the gates in ``gates.json``, where gates may be missing."""
    job = FineTuneJob.model_validate_json((root / "job.json").read_bytes())
    return job, [EvalGate.model_validate(gate) for gate in json.loads((root / "gates.json").read_bytes())]


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
            golden_sha256=_set_sha256(root, name, by_name[name].spec, "golden") or "",
            safety_sha256=_set_sha256(root, name, by_name[name].spec, "safety"),
        )
        for name in names
    ]
    return Request(
        name=job.metadata.name, namespace=job.metadata.namespace, uid="plan", spec=spec, gates=requests
    )


def _set_sha256(root: Path, gate: str, spec: EvalGateSpec, name: SetName) -> str | None:
    """Return the digest of a gate's set, None if the gate has none. That of a set at an address is checked
    when the set is copied."""
    part = spec.case_sets.get(name)
    if part is None:
        return None
    if part.source.uri is not None:
        return part.sha256 or ""
    return sha256_text(set_text(Context(role=Role.DATA, root=root), gate, spec, name))


def without_gates(job: FineTuneJob) -> FineTuneJob:
    """Return the job without its gates."""
    stages = [stage.model_copy(update={"gates": None}) for stage in job.spec.stages]
    spec = job.spec.model_copy(update={"gates": [], "stages": stages})
    return job.model_copy(update={"spec": spec})
