"""Keep records of the models that a gate judged: in full in a ConfigMap, and as a summary in status."""

from collections.abc import Iterable, Sequence

from pydantic import ValidationError

from tunegate_api import API_VERSION, GROUP
from tunegate_api.contract.digests import canonical_json
from tunegate_api.meta import ObjectMeta, StatusModel
from tunegate_api.v1alpha2 import EvalGateStatus
from tunegate_api.v1alpha2.evalgate_status import MAX_OUTCOME_BYTES, MAX_RECORDS, MAX_URI_BYTES, JudgedModel
from tunegate_api.verdict.outcomes import rate, rate_text
from tunegate_operator.children.records import UnreadableRecordError, owned_config_map
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.controller import View
from tunegate_operator.engine.owners import Owner
from tunegate_operator.names import MANAGED_LABELS, RECORDS_KEY, records_name


class GateRecords(StatusModel):
    """The content of a gate's ConfigMap: the records that the gate's status lists, with all case outcomes and
    URIs."""

    records: list[JudgedModel] = []


def read_records(meta: ObjectMeta, view: View) -> tuple[JudgedModel, ...]:
    """Return the records in a gate's ConfigMap; an empty tuple if the ConfigMap is missing, not owned by the
    gate, or unreadable.

    No verdict depends on these records, because more people may write a ConfigMap than the status of a gate.
    """
    owner = Owner(Key("EvalGate", meta.namespace, meta.name), meta.uid, GROUP)
    try:
        found = owned_config_map(view, owner, records_name(meta.name, meta.uid)) or {}
        return tuple(GateRecords.model_validate_json((found.get("data") or {}).get(RECORDS_KEY, "")).records)
    except (UnreadableRecordError, ValidationError):
        return ()


def records_config_map(meta: ObjectMeta, records: Sequence[JudgedModel]) -> Object:
    """Build the ConfigMap with the full records of the models that a gate judged."""
    owner = {
        "apiVersion": API_VERSION,
        "kind": "EvalGate",
        "name": meta.name,
        "uid": meta.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": records_name(meta.name, meta.uid),
            "namespace": meta.namespace,
            "labels": MANAGED_LABELS,
            "ownerReferences": [owner],
        },
        "data": {RECORDS_KEY: canonical_json(GateRecords(records=list(records)))},
    }


def in_full(records: Sequence[JudgedModel], sources: Iterable[Sequence[JudgedModel]]) -> list[JudgedModel]:
    """Return ``records`` with the case outcomes and URIs that status may lack: each record is replaced by the
    record of the same job in ``sources``, if there is one. Later ``sources`` have priority."""
    known = {record.job_uid: record for source in sources for record in source}
    return [known.get(record.job_uid, record) for record in records]


def with_records(status: EvalGateStatus, found: Sequence[JudgedModel]) -> EvalGateStatus:
    """Return the status with ``found`` added to its records, newest first. A record in ``found`` replaces the
    record of the same job. Records of deleted jobs stay, up to MAX_RECORDS.

    The uid decides about equal times, so that the order is always the same: another one would be written.
    """
    known = {r.job_uid for r in found}
    records = [*found, *(r for r in status.records if r.job_uid not in known)]
    records.sort(key=lambda r: (r.time, r.job_uid), reverse=True)
    kept = _bounded(records)
    if not kept:
        return status
    last = kept[0]
    published = next((r for r in kept if r.published_uris), None)
    return status.model_copy(
        update={
            "records": kept,
            "last": f"{last.job}/step-{last.step}",
            "last_verdict": last.verdict,
            "pass_rate": rate_text(rate(last.passed, last.total)),
            "base_rate": None if last.base_passed is None else rate_text(rate(last.base_passed, last.total)),
            "published_rate": rate_text(rate(published.passed, published.total)) if published else None,
        }
    )


def in_status(records: Sequence[JudgedModel], recorded: Sequence[JudgedModel]) -> list[JudgedModel]:
    """Return ``records``, sorted from newest to oldest, in the short form that status lists.

    A record that is not in the ConfigMap yet (not in ``recorded``) is not shortened. Other records keep their
    URIs up to MAX_URI_BYTES in total. If they are baselines, they also keep their case outcomes, up to
    MAX_OUTCOME_BYTES in total. The newest records are the first to use this room. Checkpoints of later jobs
    are compared with the outcomes in status, because more people may write a ConfigMap than status.
    """
    uids, baselines = {record.job_uid for record in recorded}, baseline_jobs(records)
    uri_room, outcome_room = MAX_URI_BYTES, MAX_OUTCOME_BYTES
    shown: list[JudgedModel] = []
    for record in records:
        if record.job_uid not in uids:
            shown.append(record)
            continue
        uris: list[str] = []
        for uri in record.published_uris:
            uri_room -= len(uri.encode())
            if uri_room >= 0:
                uris.append(uri)
        outcomes = ""
        if uris and record.job_uid in baselines:
            outcome_room -= len(record.outcomes)
            outcomes = record.outcomes if outcome_room >= 0 else ""
        shown.append(record.model_copy(update={"outcomes": outcomes, "published_uris": uris}))
    return shown


def _bounded(records: list[JudgedModel]) -> list[JudgedModel]:
    """Return at most MAX_RECORDS records: the baselines (see :func:`baseline_jobs`), and the newest other
    records."""
    baselines = baseline_jobs(records)
    room = max(0, MAX_RECORDS - len(baselines))
    kept: list[JudgedModel] = []
    for record in records:
        if record.job_uid in baselines:
            kept.append(record)
        elif room:
            kept.append(record)
            room -= 1
    return kept[:MAX_RECORDS]


def baseline_jobs(records: Iterable[JudgedModel]) -> set[str]:
    """Return the uids of the jobs whose models are baselines: for each URI, the newest model that passed or
    was overridden, and was published to it. ``records`` are sorted from newest to oldest."""
    newest: dict[str, str] = {}
    for record in records:
        for uri in record.published_uris if record.is_baseline else ():
            newest.setdefault(uri, record.job_uid)
    return set(newest.values())
