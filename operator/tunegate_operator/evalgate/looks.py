"""Count how often jobs evaluated models on the golden set of a gate.

A job counts at its first evaluation, and its later evaluations are added when it ends. So a job that is
deleted before its end counts too. Status lists the jobs that were read last, and the time until which all
ended jobs were read. So the counts stay correct after a restart of the operator, and when a job is deleted,
and no decision reads all jobs again. The list has room for MAX_RUNNING_LOOKS running jobs; further ones count
when they end.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from tunegate_api.contract.request import Request
from tunegate_api.meta import Sha256
from tunegate_api.v1alpha2.evalgate_status import (
    MAX_RECENT_LOOKS,
    MAX_RUNNING_LOOKS,
    CountedJob,
    JudgedModel,
    Looks,
)
from tunegate_api.verdict.optimism import optimism, optimism_text
from tunegate_operator.children.records import UnreadableRecordError, owned_config_map
from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.controller import View
from tunegate_operator.engine.objects import moment
from tunegate_operator.engine.owners import Owner
from tunegate_operator.names import REQUEST_KEY, request_name


def with_looks(
    known: Looks | None, gate: str, digest: Sha256, jobs: Sequence[Object], view: View
) -> Looks | None:
    """Return the counts of the golden set that has this ``digest``, with those of the ``jobs``, which name
    ``gate``. Ended jobs must be complete: from the time of :func:`counted_until` to the end of the last one.

    Returns None until such a job evaluated a model on the set. Ended jobs that evaluated none are listed too
    once they are so many that they would be read too often.
    """
    known = known if known and known.golden_sha256 == digest else None
    unread = [(job, seen) for job in jobs if (seen := _looks(gate, job)) and not _is_counted(known, seen)]
    uids = {s.job_uid for job, s in unread if s.has_any and _has_set(gate, digest, job, view)}
    new = [(job, seen) for job, seen in unread if seen.job_uid in uids]
    others = [(job, seen) for job, seen in unread if seen.ended and seen.job_uid not in uids]
    present = {job["metadata"]["uid"] for job in jobs}
    listed = {each.job_uid: each for each in known.recent} if known else {}
    ended = [(job, seen) for job, seen in new if seen.ended]
    gone = listed.keys() - present | {seen.job_uid for _, seen in ended}
    running = sum(each.ended is None and uid not in gone for uid, each in listed.items())
    started = [(job, seen) for job, seen in new if not seen.ended]
    new = ended + started[: max(0, MAX_RUNNING_LOOKS - running)]
    if not new and len(listed) + len(others) <= MAX_RECENT_LOOKS:
        return known
    before = [listed[seen.job_uid] for _, seen in new if seen.job_uid in listed]
    created = [moment(job["metadata"]["creationTimestamp"]) for job, _ in new or others]
    recent, until = _bounded(
        [*(listed | {seen.job_uid: seen.entry for _, seen in (*others, *new)}).values()],
        present,
        known.counted_until if known else None,
    )
    return Looks(
        golden_sha256=digest,
        since=min([*created, *([known.since] if known and known.jobs else [])]),
        jobs=len(new) - len(before) + (known.jobs if known else 0),
        checkpoints=sum(seen.checkpoints for _, seen in new)
        - sum(each.checkpoints or 0 for each in before)
        + (known.checkpoints if known else 0),
        finals=sum(seen.finals for _, seen in new)
        - sum(each.finals or 0 for each in before)
        + (known.finals if known else 0),
        recent=recent,
        counted_until=until,
    )


def counted_until(known: Looks | None, digest: Sha256) -> datetime | None:
    """Return the time until which all ended jobs were read for the golden set that has this ``digest``."""
    return known.counted_until if known and known.golden_sha256 == digest else None


def with_message(looks: Looks | None, records: Iterable[JudgedModel]) -> Looks | None:
    """Return the counts with by how much the best rate in the ``records`` of final models is too high."""
    rates = [r for r in records if looks and r.golden_sha256 == looks.golden_sha256 and r.total]
    if looks is None or looks.finals < 2 or not rates:
        return looks
    best = max(rates, key=lambda record: record.passed / record.total)
    points = optimism_text(optimism(looks.finals, best.passed, best.total, best.independent))
    message = (
        f"best of {looks.finals} final models {best.passed}/{best.total}: if all are equally good, "
        f"up to {points} points too high on average"
    )
    return looks.model_copy(update={"message": message})


def has_new_looks(known: Looks | None, gate: str, job: Object) -> bool:
    """Whether the status of the gate lacks a job that evaluated a model, or the end of such a job. A running
    job is ignored if status has no room for it, so that its progress causes no work."""
    seen = _looks(gate, job)
    if seen is None or not seen.has_any or _is_counted(known, seen):
        return False
    running = sum(each.ended is None for each in known.recent) if known else 0
    return seen.ended is not None or running < MAX_RUNNING_LOOKS


@dataclass(frozen=True)
class _JobLooks:
    """How often a job evaluated models until now."""

    job_uid: str
    ended: datetime | None
    """None while the job runs."""
    checkpoints: int
    finals: int

    @property
    def has_any(self) -> bool:
        return bool(self.checkpoints or self.finals)

    @property
    def entry(self) -> CountedJob:
        """The job's entry in the status of the gate. That of an ended job needs no counts, because it never
        counts again."""
        if self.ended:
            return CountedJob(job_uid=self.job_uid, ended=self.ended)
        return CountedJob(job_uid=self.job_uid, checkpoints=self.checkpoints, finals=self.finals)


def _is_counted(known: Looks | None, seen: _JobLooks) -> bool:
    if known is None:
        return False
    listed = next((each for each in known.recent if each.job_uid == seen.job_uid), None)
    if seen.ended is None or (listed is not None and listed.ended is None):
        return listed is not None and seen.ended is None
    return listed is not None or (known.counted_until is not None and seen.ended <= known.counted_until)


def _looks(gate: str, job: Object) -> _JobLooks | None:
    """Return how often a job evaluated models on the set of a gate. Returns None if it runs and evaluated
    none. If another version wrote its status in another form, it counts as one that evaluated none.

    Checkpoints that the status of the job does not list any more count for each gate that it names.
    """
    status: Mapping[str, Any] = job.get("status") or {}
    ended = moment(text) if (text := status.get("completionTime")) else None
    try:
        listed = sum(_judged(gate, checkpoint) for checkpoint in status.get("checkpoints") or ())
        checkpoints = listed + int(status.get("checkpointsOmitted") or 0)
        finals = int(_judged(gate, status.get("final") or {}))
    except (AttributeError, TypeError, ValueError):
        checkpoints = finals = 0
    if not ended and not checkpoints and not finals:
        return None
    return _JobLooks(job["metadata"]["uid"], ended, checkpoints, finals)


def _judged(gate: str, evaluated: Mapping[str, Any]) -> bool:
    return any(result.get("name") == gate for result in evaluated.get("gates") or ())


def _has_set(gate: str, digest: Sha256, job: Object, view: View) -> bool:
    """Whether the job evaluates models on the set with this digest. An earlier gate with the same name may
    have had another one. A job whose request is not the operator's counts, so that nobody can hide looks."""
    meta = job["metadata"]
    try:
        found = owned_config_map(view, Owner.of(job), request_name(meta["name"], meta["uid"])) or {}
    except UnreadableRecordError:
        return True
    text = (found.get("data") or {}).get(REQUEST_KEY, "")
    if digest not in text:  # checked before parsing, which takes longer
        return False
    try:
        request = Request.model_validate_json(text)
    except ValidationError:
        return False
    return any(each.name == gate and each.golden_sha256 == digest for each in request.gates)


def _bounded(
    entries: Iterable[CountedJob], present: set[str], until: datetime | None
) -> tuple[list[CountedJob], datetime | None]:
    """Return at most MAX_RECENT_LOOKS entries, and the time until which all ended jobs are counted. Entries
    of deleted jobs are dropped first, because they cannot be counted again, and then those of the jobs that
    ended first. Running jobs are never dropped."""

    def key(entry: CountedJob) -> tuple[bool, bool, datetime, str]:
        ended = entry.ended or datetime.max.replace(tzinfo=UTC)
        return entry.job_uid in present, entry.ended is None, ended, entry.job_uid

    order = sorted(entries, key=key)
    dropped = order[: max(0, len(order) - MAX_RECENT_LOOKS)]
    times = [each.ended for each in dropped if each.job_uid in present and each.ended]
    return order[len(dropped) :], max([*times, *([until] if until else [])], default=None)
