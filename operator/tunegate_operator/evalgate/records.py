"""The records of the models that a gate judged: all in a ConfigMap, and a summary in status."""

from collections.abc import Iterable, Sequence

from pydantic import ValidationError

from tunegate_api import API_VERSION
from tunegate_api.contract import canonical_json
from tunegate_api.judging.verdict import VerdictState, rate, rate_text
from tunegate_api.meta import ObjectMeta, StatusModel
from tunegate_api.v1alpha1 import EvalGateStatus
from tunegate_api.v1alpha1.evalgate_status import MAX_OUTCOME_BYTES, MAX_RECORDS, MAX_URI_BYTES, Record
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.controller import View
from tunegate_operator.engine.owners import controlling_owner
from tunegate_operator.names import MANAGED_LABELS, RECORDS_KEY, records_name


class Records(StatusModel):
    """The content of the ConfigMap: the records that status lists, with all outcomes and URIs."""

    records: list[Record] = []


def read_records(meta: ObjectMeta, view: View) -> tuple[Record, ...]:
    """Return the records in a gate's ConfigMap; none if it is missing, not owned by the gate, or unreadable.

    No verdict depends on their content, because more people may write a ConfigMap than the status of a gate.
    """
    found = view.get(Key("ConfigMap", meta.namespace, records_name(meta.name, meta.uid)))
    owner = controlling_owner(found) if found else None
    if found is None or owner is None or owner.uid != meta.uid:
        return ()
    try:
        return tuple(Records.model_validate_json((found.get("data") or {}).get(RECORDS_KEY, "")).records)
    except ValidationError:
        return ()


def records_config_map(meta: ObjectMeta, records: Sequence[Record]) -> Object:
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
        "data": {RECORDS_KEY: canonical_json(Records(records=list(records)))},
    }


def in_full(records: Sequence[Record], sources: Iterable[Sequence[Record]]) -> list[Record]:
    """Return ``records``, each replaced by its version in the last of ``sources`` that has it."""
    known = {record.job_uid: record for source in sources for record in source}
    return [known.get(record.job_uid, record) for record in records]


def with_records(status: EvalGateStatus, found: Sequence[Record]) -> EvalGateStatus:
    """Add newly judged models to the records, newest first. Records of deleted jobs stay."""
    known = {r.job_uid for r in found}
    records = sorted([*found, *(r for r in status.records if r.job_uid not in known)], key=lambda r: r.time)
    records.reverse()
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


def in_status(records: Sequence[Record], recorded: Sequence[Record]) -> list[Record]:
    """Return ``records`` as status lists them. Of a record that is also in the ConfigMap (``recorded``),
    status has its outcomes only while it is a baseline. Outcomes and URIs of the newest records are kept, up
    to a limit.

    Baselines keep their outcomes because the previous release reads them only in status, as after
    ``helm rollback``.
    """
    uids, baselines = {record.job_uid for record in recorded}, baseline_jobs(records)
    uri_room, outcome_room = MAX_URI_BYTES, MAX_OUTCOME_BYTES
    shown: list[Record] = []
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


def _bounded(records: list[Record]) -> list[Record]:
    """Return the newest records, and for each URI the newest published one, which is a baseline."""
    baselines = baseline_jobs(records)
    room = max(0, MAX_RECORDS - len(baselines))
    kept: list[Record] = []
    for record in records:
        if record.job_uid in baselines:
            kept.append(record)
        elif room:
            kept.append(record)
            room -= 1
    return kept[:MAX_RECORDS]


def baseline_jobs(records: Iterable[Record]) -> set[str]:
    """Return the uids of the jobs whose passing version is the newest published to some URI. ``records`` are
    newest first."""
    newest: dict[str, str] = {}
    for record in records:
        for uri in record.published_uris if record.verdict is VerdictState.PASSED else ():
            newest.setdefault(uri, record.job_uid)
    return set(newest.values())
