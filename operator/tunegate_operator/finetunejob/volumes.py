"""Build the volumes of a FineTuneJob's pods. Each role gets only the volumes that it needs."""

from collections.abc import Iterable
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from tunegate_api.contract.process import Role
from tunegate_api.contract.request import GateRequest, Request
from tunegate_api.contract.workspace import Workspace
from tunegate_api.v1alpha2 import EvalGateSpec, FineTuneJob, FineTuneJobSpec
from tunegate_api.v1alpha2.case_source import CaseSource
from tunegate_operator.children.volumes import ROOT, WHOLE, PodVolumes
from tunegate_operator.names import Step, plan_name, request_name, review_name

_SHARED_FOLDERS = {
    Role.TRAIN: {Workspace.models: False, Workspace.baselines: True},
    Role.GATE: {Workspace.models: False, Workspace.baselines: True},
}
"""The folders of the workspace that jobs share, by the role that needs them, each with whether the role
writes to it. The data role sees the whole storage claim, because it creates all folders."""


def input_config_maps(
    spec: FineTuneJobSpec, gates: Iterable[EvalGateSpec], role: Role = Role.DATA
) -> list[str]:
    """Return the names of the ConfigMaps that the pods of a role read: data, schemas, golden sets and safety
    sets, and for the data role the agreement sets of the gates' graders."""
    names = [source.config_map for source in spec.data.sources]
    names += [metric.schema_.config_map for metric in spec.task_metrics if metric.schema_]
    names += [name for gate in gates for name in gate_config_maps(gate, role)]
    return sorted({name for name in names if name})


def gate_config_maps(gate: EvalGateSpec, role: Role = Role.DATA) -> list[str]:
    """Return the names of the ConfigMaps that the pods of a role read for a gate."""
    return [
        part.source.config_map
        for part in gate.sets
        if part.source.config_map and (role is Role.DATA or part.kind != "Agreement")
    ]


def _sources_of(gates: Iterable[GateRequest]) -> list[CaseSource]:
    """Return the sources of gates that the data role reads."""
    return [part.source for gate in gates for part in gate.spec.sets]


def _scored_gates(request: Request, step: Step) -> list[GateRequest]:
    """Return the gates whose servers the pods of a step ask. The first stage also evaluates the base model
    for the gates of other stages."""
    if step.role is Role.GATE:
        names = {gate.name for gate in request.spec.gates}
        return [gate for gate in request.gates if gate.name in names]
    if step.role is Role.TRAIN and step.stage not in (None, request.spec.stages[0].name):
        return request.gates_of(step.stage)
    return request.gates if step.role in (Role.DATA, Role.TRAIN) else []


def _claims(spec: FineTuneJobSpec, request: Request, role: Role) -> dict[str, bool]:
    """Return the names of the PersistentVolumeClaims in the URIs that a role uses, each with whether the role
    writes to it. The storage claim is only included if such a URI names it."""
    pinned = [version.uri for gate in request.gates if (version := gate.spec.pinned_version)]
    if role is Role.DATA:
        start = request.start_from.uri if request.start_from else None
        of_gates = [source.uri for source in _sources_of(request.gates)]
        rows = [source.uri for source in spec.data.sources]
        uris = dict.fromkeys([spec.model.uri, start, *rows, *of_gates, *pinned], False)
    elif role is Role.PUBLISH:
        uris = {target.uri: True for target in spec.publish}
    elif role is Role.GATE:
        published = spec.publish if request.compares_with_published else []
        uris = dict.fromkeys([*(target.uri for target in published), *pinned], False)
    else:
        return {}
    return {urlsplit(uri).netloc: writes for uri, writes in uris.items() if uri and uri.startswith("pvc://")}


def dry_run_claims(spec: FineTuneJobSpec, request: Request, role: Role) -> set[str]:
    """Return the claims in the URIs that a role uses that only gates in a dry run name."""
    enforced = {*_claims(spec, _without_dry_runs(request), role), *_claims(spec, request, Role.PUBLISH)}
    return _claims(spec, request, role).keys() - {*enforced, spec.storage.persistent_volume_claim}


def _secrets(spec: FineTuneJobSpec, request: Request, step: Step) -> list[str]:
    """Return the names of the Secrets that a step needs for its URIs, for inference servers or for the
    trackers. Its pods get no other Secret."""
    names: list[str | None] = []
    role = step.role
    tracking = spec.tracking
    if tracking and role.sends_metrics:
        names = [tracker.secret_name for tracker in (tracking.mlflow, tracking.wandb) if tracker]
    if role is Role.DATA:
        names += [spec.model.secret_name, *(source.secret_name for source in spec.data.sources)]
        names += [source.secret_name for source in _sources_of(request.gates)]
    scored = _scored_gates(request, step)
    names += [grader.endpoint.secret_name for gate in scored for grader in gate.spec.graders]
    if role in (Role.DATA, Role.GATE):  # the data role only checks them
        final = {gate.name for gate in spec.gates}
        endpoints = [gate.spec.endpoint for gate in request.gates if gate.name in final]
        names += [endpoint.secret_name for endpoint in endpoints if endpoint]
    return sorted({name for name in names if name})


def _without_dry_runs(request: Request) -> Request:
    """Return the request as if its gates in a dry run had been left out."""
    dry_runs = {gate.name: "" for gate in request.gates if gate.spec.dry_run}
    gates = [gate for gate in request.gates if gate.name not in dry_runs]
    return request.model_copy(update={"gates": gates, "left_out": request.left_out | dry_runs})


def pod_volumes(
    job: FineTuneJob,
    request: Request,
    step: Step,
    *,
    reports: bool,
    secrets_needed: bool,
    leave_out_claims: bool = False,
) -> PodVolumes:
    """Build the volumes of a step's pods. :mod:`tunegate_api.contract` documents their mount paths.

    With ``reports``, pods get a token for the report address. A pod waits for a ConfigMap that does not exist
    and, with ``secrets_needed``, for a Secret, unless only gates in a dry run name it. With
    ``leave_out_claims``, claims that only gates in a dry run name are not mounted.
    """
    meta, storage, role = job.metadata, job.spec.storage.persistent_volume_claim, step.role
    found = PodVolumes()
    found.add_config_map("request", request_name(meta.name, meta.uid), ROOT / "request")
    if role is not Role.DATA and not role.is_chore:
        found.add_config_map("plan", plan_name(meta.name, meta.uid), ROOT / "plan")
        if job.spec.data.quality:  # a job trains on if the record of its review is deleted
            record = review_name(meta.name, meta.uid)
            found.add_config_map("tunegate-review", record, ROOT / "review", needed=False)
    enforced = _without_dry_runs(request)
    inputs = input_config_maps(job.spec, [gate.spec for gate in request.gates], role)
    needed_inputs = input_config_maps(job.spec, [gate.spec for gate in enforced.gates], role)
    for i, name in enumerate(() if role.is_chore else inputs):
        found.add_config_map(f"input-{i}", name, ROOT / "inputs" / name, needed=name in needed_inputs)
    left_out = dry_run_claims(job.spec, request, role) if leave_out_claims else ()
    claims = {k: v for k, v in _claims(job.spec, request, role).items() if k not in left_out}
    for i, (name, writes) in enumerate(sorted(claims.items())):
        if name == storage:  # one claim is one volume of a pod
            found.mount("workspace", ROOT / "volumes" / name, writes=writes)
            if writes:  # whatever a link in the target leads to, the files of jobs stay read-only
                reserved = ROOT / "volumes" / name / Workspace.root
                found.mount("workspace", reserved, folder=Workspace.root)
        else:
            found.add_claim(f"volume-{i}", name, ROOT / "volumes" / name, writes=writes)
    needed = _secrets(job.spec, enforced, step) if secrets_needed else ()
    found.add_secrets(_secrets(job.spec, request, step), needed=needed)
    if reports:
        found.add_report_token(meta.uid)
    found.add_workspace(storage, _workspace_folders(meta.uid, role))
    return found


def _workspace_folders(uid: str, role: Role) -> dict[PurePosixPath, bool]:
    """Return the folders of the storage claim that a role sees, each with whether it writes to it.

    A kubelet creates a missing folder as root, so all of them are created by the data role.
    """
    if role is Role.DATA:
        return {WHOLE: True}
    return {Workspace(uid).job: True, **_SHARED_FOLDERS.get(role, {})}
