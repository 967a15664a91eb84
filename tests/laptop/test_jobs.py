"""The next status and pods of a Job, as decided from its current pods."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.laptop import FAIL_ON_10, IGNORE_DISRUPTION, final_condition
from tunegate_client.laptop.jobs import new_pod, refuse_unsupported, step_job
from tunegate_operator.children import pod_status
from tunegate_operator.engine.cluster import InvalidObjectError, Object

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def make_job(**spec: Any) -> Object:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "train", "namespace": "default", "uid": "job-uid"},
        "spec": {
            "backoffLimit": 3,
            "podFailurePolicy": {"rules": [IGNORE_DISRUPTION, FAIL_ON_10]},
            "template": {"metadata": {}, "spec": {"containers": [{"name": "trainer"}]}},
            **spec,
        },
    }


def pod(code: int | None = None, *, disruption: str | None = None, ended: datetime = NOW) -> Object:
    """Build a pod that is running or, with ``code``, has ended with this exit code."""
    made = new_pod(make_job())
    made["status"] = pod_status.running(made, NOW - timedelta(minutes=1))
    if code is not None:
        made["status"] = pod_status.terminated(made, code, "", ended, disruption=disruption)
    return made


def terminating(one: Object) -> Object:
    one["metadata"]["deletionTimestamp"] = "2026-01-01T12:00:30Z"
    return one


LONG_AGO = NOW - timedelta(hours=1)

TABLE: list[tuple[str, dict[str, Any], list[Object], bool, str | None]] = [
    ("a new Job starts a pod", {}, [], True, None),
    ("a running pod is enough", {}, [pod()], False, None),
    ("a succeeded pod completes the Job", {}, [pod(1), pod(0)], False, "CompletionsReached"),
    ("a failure within the limit is retried", {}, [pod(1, ended=LONG_AGO)], True, None),
    ("a retry waits for its backoff", {}, [pod(1, ended=NOW)], False, None),
    (
        "one failure more than the limit fails the Job",
        {"backoffLimit": 0},
        [pod(1)],
        False,
        "BackoffLimitExceeded",
    ),
    (
        "seven failures exceed a limit of six",
        {"backoffLimit": 6},
        [pod(1)] * 7,
        False,
        "BackoffLimitExceeded",
    ),
    ("a disrupted pod is replaced at once", {"backoffLimit": 0}, [pod(75, disruption="x")], True, None),
    ("a disruption takes precedence over the exit code", {}, [pod(10, disruption="x")], True, None),
    ("a permanent exit code fails the Job", {}, [pod(10, ended=LONG_AGO)], False, "PodFailurePolicy"),
    ("a terminating pod delays its replacement", {}, [terminating(pod())], False, None),
    ("a suspended Job starts no pod", {"suspend": True}, [], False, None),
]


@pytest.mark.parametrize(
    ("spec", "pods", "starts", "reason"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_pod_states_decide_whether_a_job_starts_or_ends(
    spec: dict[str, Any], pods: list[Object], starts: bool, reason: str | None
) -> None:
    step = step_job(make_job(**spec), pods, NOW)
    assert step.starts == ((0,) if starts else ())
    condition = final_condition({"status": step.status})
    assert (condition["reason"] if condition else None) == reason


@pytest.mark.parametrize(("failures", "seconds"), [(1, 1), (2, 2), (3, 4)])
def test_backoff_before_the_next_pod_doubles(failures: int, seconds: int) -> None:
    def starts(waited: float) -> bool:
        ended = NOW - timedelta(seconds=waited)
        return bool(step_job(make_job(backoffLimit=9), [pod(1, ended=ended)] * failures, NOW).starts)

    assert not starts(seconds - 1)
    assert starts(seconds)


def test_failing_job_ends_only_after_its_pods() -> None:
    job = make_job(activeDeadlineSeconds=10)
    job["status"] = {"startTime": "2026-01-01T11:59:00Z"}
    running = pod()
    step = step_job(job, [running], NOW)
    assert step.stops == (running,)
    assert final_condition({"status": step.status}) is None
    job["status"] = step.status
    assert final_condition({"status": step_job(job, [terminating(running)], NOW).status}) is None
    condition = final_condition({"status": step_job(job, [], NOW).status})
    assert condition is not None
    assert condition["reason"] == "DeadlineExceeded"


def test_finished_job_keeps_its_status() -> None:
    job = make_job()
    job["status"] = step_job(job, [pod(0)], NOW).status
    assert step_job(job, [], NOW + timedelta(days=1)).status == job["status"]


def test_long_job_name_gives_a_valid_pod_name() -> None:
    job = make_job()
    job["metadata"]["name"] = "n" * 63
    name = new_pod(job)["metadata"]["name"]
    assert len(name) == 63
    assert name != new_pod(job)["metadata"]["name"]


INDEXED = {"completionMode": "Indexed", "completions": 3, "parallelism": 3, "backoffLimit": 0}


def indexed(pods: dict[int, Object]) -> list[Object]:
    """Return the pods, each with the label of its completion index."""
    made = []
    for index, one in pods.items():
        labels = new_pod(make_job(**INDEXED), index)["metadata"]["labels"]
        made.append(one | {"metadata": one["metadata"] | {"labels": labels}})
    return made


def test_indexed_job_completes_when_every_pod_succeeded() -> None:
    job = make_job(**INDEXED)
    assert step_job(job, [], NOW).starts == (0, 1, 2)
    assert step_job(job, indexed({0: pod(), 2: pod()}), NOW).starts == (1,)
    step = step_job(job, indexed({0: pod(0), 1: pod(), 2: pod(0)}), NOW)
    assert (step.starts, final_condition({"status": step.status})) == ((), None)
    condition = final_condition(
        {"status": step_job(job, indexed(dict.fromkeys(range(3), pod(0))), NOW).status}
    )
    assert condition is not None
    assert condition["type"] == "Complete"


def test_failed_pod_stops_all_pods_of_an_indexed_job() -> None:
    others = {1: pod(), 2: pod()}
    step = step_job(make_job(**INDEXED), indexed({0: pod(1), **others}), NOW)
    assert [one["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] for one in step.stops] == [
        "1",
        "2",
    ]


def test_indexed_pod_has_its_index_in_name_and_label() -> None:
    made = new_pod(make_job(**INDEXED), 2)["metadata"]
    assert made["name"].startswith(f"{make_job()['metadata']['name']}-2-")
    assert made["labels"]["batch.kubernetes.io/job-completion-index"] == "2"


def test_parallel_pods_without_an_index_are_refused() -> None:
    with pytest.raises(InvalidObjectError, match="completionMode: Indexed"):
        refuse_unsupported(make_job(completions=2, parallelism=2))
    with pytest.raises(InvalidObjectError, match="parallelism"):
        refuse_unsupported(make_job(**INDEXED | {"parallelism": 1}))
