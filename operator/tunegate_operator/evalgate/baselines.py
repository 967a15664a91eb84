"""List cached baselines in a gate's status, by digest. The baselines are files on a volume that later jobs
may use."""

from collections.abc import Iterable, Sequence

from pydantic import ValidationError

from tunegate_api.v1alpha2.evalgate_status import MAX_BASELINES, RecordedBaseline
from tunegate_operator.engine.cluster import Object


def with_baselines(known: Sequence[RecordedBaseline], jobs: Iterable[Object]) -> list[RecordedBaseline]:
    """Return the ``known`` baselines, and the baselines in the status of the ``jobs``, which name the gate.

    The baselines of the newest jobs come first, and at most MAX_BASELINES are kept. A baseline has the
    creation time of the newest job that lists it, so the same jobs always give the same list. The status of a
    job can be trusted, because only the operator writes it.
    """
    found = [baseline for job in jobs for baseline in _baselines(job)]
    latest: dict[tuple[str, str], RecordedBaseline] = {}
    for baseline in (*known, *found):
        identity = (baseline.key, baseline.sha256)
        if identity not in latest or latest[identity].time < baseline.time:
            latest[identity] = baseline
    newest = sorted(latest.values(), key=lambda one: (one.time, one.key, one.sha256), reverse=True)
    return newest[:MAX_BASELINES]


def _baselines(job: Object) -> list[RecordedBaseline]:
    """Return the baselines in a job's status; an empty list if another version wrote them in another form."""
    created, listed = job["metadata"].get("creationTimestamp"), (job.get("status") or {}).get("baselines")
    try:
        return [RecordedBaseline.model_validate({**one, "time": created}) for one in listed or ()]
    except (ValidationError, TypeError):
        return []
