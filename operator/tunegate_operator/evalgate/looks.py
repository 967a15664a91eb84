"""Count how often jobs evaluated models on the golden set of a gate.

A job counts once, however often it is observed: status keeps the counts of running jobs and of the jobs that
ended last, and only their increase is added. Jobs that ended earlier are not read again. So the counts stay
correct after a restart of the operator, and when a job is deleted.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from tunegate_api.contract import Request
from tunegate_api.judging.optimism import optimism, optimism_text
from tunegate_api.meta import Sha256
from tunegate_api.v1alpha1.evalgate_status import MAX_RECENT_LOOKS, JobLooks, Looks, Record
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.controller import View
from tunegate_operator.engine.objects import moment
from tunegate_operator.evalgate.baselines import names_gate
from tunegate_operator.names import REQUEST_KEY, request_name


def with_looks(
    known: Looks | None, gate: str, digest: Sha256, jobs: Sequence[Object], view: View
) -> Looks | None:
    """Return the counts of the golden set that has this ``digest``, with those of the ``jobs`` that name
    ``gate``. Returns None until a model was evaluated on it."""
    known = known if known and known.golden_sha256 == digest else None
    entries = {each.job_uid: each for each in known.recent} if known else {}
    until, since = (known.counted_until, known.since) if known else (None, None)
    totals = (known.jobs, known.checkpoints, known.finals) if known else (0, 0, 0)
    present = {job["metadata"]["uid"] for job in jobs}
    found = [(job, seen) for job in jobs if (seen := _looks(gate, job))]
    # Ended jobs first: they always fit, because the oldest of them need no entry any more.
    for job, seen in sorted(found, key=lambda each: (each[1].ended is None, *_age(each[0]))):
        before = entries.get(seen.job_uid)
        if not _is_new(seen, before, until):
            continue
        if before is None:
            is_full = (
                sum(e.ended is None and e.job_uid in present for e in entries.values()) >= MAX_RECENT_LOOKS
            )
            if (seen.ended is None and is_full) or not _has_set(gate, digest, job, view):
                continue
        checkpoints, finals = (before.checkpoints, before.finals) if before else (0, 0)
        totals = (
            totals[0] + (before is None),
            totals[1] + max(0, seen.checkpoints - checkpoints),
            totals[2] + max(0, seen.finals - finals),
        )
        since = min(since, _age(job)[0]) if since else _age(job)[0]
        entries[seen.job_uid] = seen.model_copy(
            update={"checkpoints": max(seen.checkpoints, checkpoints), "finals": max(seen.finals, finals)}
        )
    if since is None:
        return None
    recent, until = _bounded(entries.values(), present, until)
    return Looks(
        golden_sha256=digest,
        since=since,
        jobs=totals[0],
        checkpoints=totals[1],
        finals=totals[2],
        recent=recent,
        counted_until=until,
    )


def with_message(looks: Looks | None, records: Iterable[Record]) -> Looks | None:
    """Return the counts with by how much the best rate in the ``records`` of final models is too high."""
    rates = [r for r in records if looks and r.golden_sha256 == looks.golden_sha256 and r.total]
    if looks is None or looks.finals < 2 or not rates:
        return looks
    best = max(rates, key=lambda record: record.passed / record.total)
    points = optimism_text(optimism(looks.finals, best.passed, best.total))
    message = (
        f"best of {looks.finals} final models {best.passed}/{best.total}: if all are equally good, "
        f"optimistic by up to {points} points"
    )
    return looks.model_copy(update={"message": message})


def has_new_looks(known: Looks | None, gate: str, job: Object) -> bool:
    """Whether the status of the gate lacks a job that evaluated a model, or counts it as running although it
    ended. Further checkpoints of a running job are counted with the next change of the gate, because every
    decision about a gate reads all jobs."""
    seen = _looks(gate, job)
    if seen is None or known is None:
        return seen is not None
    before = next((e for e in known.recent if e.job_uid == seen.job_uid), None)
    if before is None and seen.ended is None:
        return sum(e.ended is None for e in known.recent) < MAX_RECENT_LOOKS
    return seen.ended is not None and _is_new(seen, before, known.counted_until)


def _is_new(seen: JobLooks, before: JobLooks | None, until: datetime | None) -> bool:
    if before is None:
        return seen.ended is None or until is None or seen.ended > until
    return seen.checkpoints > before.checkpoints or seen.finals > before.finals or seen.ended != before.ended


def _looks(gate: str, job: Object) -> JobLooks | None:
    """Return how often a job evaluated models on the set of a gate; None if it did not, or if another version
    wrote its status in another form.

    Checkpoints that the status of the job does not list any more count for each gate that it names.
    """
    if not names_gate(job, gate):
        return None
    status: Mapping[str, Any] = job.get("status") or {}
    try:
        listed = sum(_judged(gate, checkpoint) for checkpoint in status.get("checkpoints") or ())
        checkpoints = listed + int(status.get("checkpointsOmitted") or 0)
        finals = int(_judged(gate, status.get("final") or {}))
    except (AttributeError, TypeError, ValueError):
        return None
    if not checkpoints and not finals:
        return None
    return JobLooks(job_uid=job["metadata"]["uid"], checkpoints=checkpoints, finals=finals, ended=_ended(job))


def _judged(gate: str, evaluated: Mapping[str, Any]) -> bool:
    return any(result.get("name") == gate for result in evaluated.get("gates") or ())


def _ended(job: Object) -> datetime | None:
    ended = (job.get("status") or {}).get("completionTime")
    return moment(ended) if ended else None


def _age(job: Object) -> tuple[datetime, str]:
    return moment(job["metadata"]["creationTimestamp"]), job["metadata"]["uid"]


def _has_set(gate: str, digest: Sha256, job: Object, view: View) -> bool:
    """Whether the job evaluates models on the set with this digest. An earlier gate with the same name may
    have had another one."""
    meta = job["metadata"]
    found = view.get(Key("ConfigMap", meta["namespace"], request_name(meta["name"], meta["uid"]))) or {}
    text = (found.get("data") or {}).get(REQUEST_KEY, "")
    if digest not in text:  # checked before parsing, because there may be thousands of jobs
        return False
    try:
        request = Request.model_validate_json(text)
    except ValidationError:
        return False
    return any(each.name == gate and each.golden_sha256 == digest for each in request.gates)


def _bounded(
    entries: Iterable[JobLooks], present: set[str], until: datetime | None
) -> tuple[list[JobLooks], datetime | None]:
    """Return at most MAX_RECENT_LOOKS entries, and the time until which all ended jobs are counted. Entries
    of deleted jobs are dropped first, because their counts cannot increase, and then those of the jobs that
    ended first."""
    order = sorted(
        entries,
        key=lambda e: (
            e.job_uid in present,
            e.ended is None,
            e.ended.timestamp() if e.ended else 0,
            e.job_uid,
        ),
    )
    dropped = order[: max(0, len(order) - MAX_RECENT_LOOKS)]
    times = [e.ended for e in dropped if e.ended and e.job_uid in present]
    return order[len(dropped) :], max([*times, *([until] if until else [])], default=None)
