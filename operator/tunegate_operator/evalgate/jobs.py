"""Find the FineTuneJobs about which an EvalGate has something to record, without reading the other jobs of
the namespace."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from tunegate_api.v1alpha2 import EvalGate
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.controller import View
from tunegate_operator.engine.objects import moment, timestamp
from tunegate_operator.names import gate_names, judged_names

MOST_JOBS = 100
"""The most ended jobs that one decision reads. The next decision reads further jobs, so that a gate with
thousands of new jobs delays no other object for long."""
LATE = timedelta(minutes=1)
"""How late the end of a job may be observed, after those of jobs that ended later: for example because
another worker wrote its status, or a leader whose clock differs."""
_RUNNING = "~"
"""The position of a job that has not ended. It sorts after all times."""
_RECORDED = ("baselines", "errorRates", "checkpoints", "final")
"""The fields in the status of a job from which a gate records something."""


def index_job(job: Object) -> Iterable[tuple[Key, str]]:
    """Return the gates that have something to record from a job, each with the time at which the job ended.

    Gates have nothing to record from a job that evaluated no model, as one that waits for its start.
    """
    status = job.get("status")
    if not isinstance(status, dict) or not any(map(status.get, _RECORDED)):
        return []
    namespace, position = job["metadata"].get("namespace", "default"), _position(status)
    names = gate_names(job) | judged_names(job)
    return [(Key("EvalGate", namespace, name), position) for name in sorted(names)]


def read_new_jobs(
    gate: EvalGate, counted_until: datetime | None, view: View
) -> tuple[Iterator[Object], bool]:
    """Read the jobs that did not end until ``counted_until`` and from which the gate has something to record,
    first those that ended first. Also return whether further ended jobs are left for the next decision.

    Jobs that ended shortly before ``counted_until`` are read again, because the end of one may be observed
    late. The number of jobs that have not ended is limited by the pods that the cluster can run.
    """
    key = Key("EvalGate", gate.metadata.namespace, gate.metadata.name)
    until = timestamp(counted_until) if counted_until else ""
    start = timestamp(counted_until - LATE) if counted_until else ""
    entries = view.indexed(key, "FineTuneJob", start)
    again = [entry for entry in entries if entry[1] <= until]
    ended = [position for _, position in entries[len(again) :] if position != _RUNNING]
    is_more = len(ended) > MOST_JOBS
    # All jobs that ended in the same second are read together, because the next decision starts after it.
    last = ended[MOST_JOBS - 1] if is_more else ""
    new = [e for e in entries[len(again) :] if not is_more or e[1] <= last or e[1] == _RUNNING]
    return (job for key, _ in (*again[-MOST_JOBS:], *new) if (job := view.get(key))), is_more


def _position(status: Object) -> str:
    try:
        return timestamp(moment(status["completionTime"]))
    except (KeyError, TypeError, ValueError):
        return _RUNNING
