"""List the error rates of a gate that jobs measured in the gate's status."""

from collections.abc import Iterable, Sequence

from pydantic import ValidationError

from tunegate_api.v1alpha2.error_rate_status import JobErrorRate, RecordedErrorRate
from tunegate_api.v1alpha2.evalgate_status import MAX_ERROR_RATES
from tunegate_operator.engine.cluster import Object


def with_error_rates(
    known: Sequence[RecordedErrorRate], gate: str, jobs: Iterable[Object]
) -> list[RecordedErrorRate]:
    """Return the ``known`` error rates, and those in the status of the ``jobs``.

    There is one for each base model, golden set, scoring and rules: that of the newest job. The newest
    come first, and at most MAX_ERROR_RATES are kept. Only the newest lists flaky cases. The same jobs always
    give the same list. The status of a job can be trusted, because only the operator writes it.
    """
    found = [rate for job in jobs for rate in _measured(job, gate)]
    latest: dict[tuple[str, str, str, str], RecordedErrorRate] = {}
    for rate in (*known, *found):
        measured = (rate.base_digest, rate.golden_sha256, rate.scoring, rate.rules)
        if measured not in latest or (latest[measured].time, latest[measured].job) <= (rate.time, rate.job):
            latest[measured] = rate
    newest = sorted(latest.values(), key=lambda one: (one.time, one.job, one.base_digest), reverse=True)
    older = [one.model_copy(update={"flaky_cases": []}) for one in newest[1:MAX_ERROR_RATES]]
    return [*newest[:1], *older]


def _measured(job: Object, gate: str) -> list[RecordedErrorRate]:
    """Return the error rates of the gate in a job's status; an empty list if another version wrote them in
    another form."""
    meta, listed = job["metadata"], (job.get("status") or {}).get("errorRates")
    try:
        rates = [JobErrorRate.model_validate(one) for one in listed or ()]
        return [
            RecordedErrorRate.model_validate(
                {**rate.to_wire(), "job": meta["name"], "time": meta.get("creationTimestamp")}
            )
            for rate in rates
            if rate.gate == gate
        ]
    except (ValidationError, TypeError):
        return []
