"""Only a pod of the job, with a token made for reporting on it, may report."""

import pytest

from support.clock import FakeClock
from tunegate_api.contract import report_audience
from tunegate_operator.engine.cache import Cache
from tunegate_operator.engine.cluster import ClusterError, Object, WatchEvent
from tunegate_operator.reporting.senders import REMEMBERED_SECONDS, RefusedError, Senders, UnknownPodError

JOB = "job-uid"


def owned(kind: str, uid: str, owner_kind: str, owner_uid: str) -> Object:
    owner = {"apiVersion": "v1", "kind": owner_kind, "name": owner_uid, "uid": owner_uid, "controller": True}
    metadata = {"name": uid, "namespace": "default", "uid": uid, "resourceVersion": "1"}
    return {"apiVersion": "v1", "kind": kind, "metadata": {**metadata, "ownerReferences": [owner]}}


class Reviews:
    """Answers as the API server does, and counts."""

    def __init__(self) -> None:
        self.count = 0
        self.pods = ["pod-uid"]
        self.error: ClusterError | None = None

    def __call__(self, token: str, audience: str) -> Object:
        self.count += 1
        if self.error:
            raise self.error
        if token != "good" or audience != report_audience(JOB):
            return {"authenticated": False}
        extra = {"authentication.kubernetes.io/pod-uid": self.pods} if self.pods else {}
        return {"authenticated": True, "audiences": [audience], "user": {"username": "x", "extra": extra}}


@pytest.fixture
def reviews() -> Reviews:
    return Reviews()


@pytest.fixture
def cache() -> Cache:
    cache = Cache()
    for obj in (
        owned("Job", "child-uid", "FineTuneJob", JOB),
        owned("Pod", "pod-uid", "Job", "child-uid"),
        owned("Job", "other-child", "FineTuneJob", "other-job"),
        owned("Pod", "other-pod", "Job", "other-child"),
    ):
        cache.apply(WatchEvent("ADDED", obj))
    return cache


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def senders(reviews: Reviews, cache: Cache, clock: FakeClock) -> Senders:
    return Senders(reviews, cache, clock)


def test_a_pod_of_the_job_may_report(senders, reviews):
    senders.check("good", JOB)
    assert reviews.count == 1


def test_a_token_is_reviewed_again_only_after_a_while(senders, reviews, clock):
    senders.check("good", JOB)
    senders.check("good", JOB)
    assert reviews.count == 1
    clock.advance(REMEMBERED_SECONDS + 1)
    senders.check("good", JOB)
    assert reviews.count == 2


def test_a_token_of_another_audience_is_refused(senders):
    with pytest.raises(RefusedError, match="not one for reporting on this job"):
        senders.check("good", "other-job")


def test_a_token_of_another_jobs_pod_is_refused(senders, reviews):
    reviews.pods = ["other-pod"]
    with pytest.raises(RefusedError, match="another job"):
        senders.check("good", JOB)


def test_a_token_that_is_bound_to_no_pod_is_refused(senders, reviews):
    reviews.pods = []
    with pytest.raises(RefusedError, match="not bound to a pod"):
        senders.check("good", JOB)


def test_a_pod_that_is_gone_may_not_report(senders, cache):
    senders.check("good", JOB)
    cache.apply(WatchEvent("DELETED", owned("Pod", "pod-uid", "Job", "child-uid")))
    with pytest.raises(UnknownPodError):
        senders.check("good", JOB)


def test_a_pod_that_still_saves_may_report_though_its_job_was_deleted(senders, cache):
    cache.apply(WatchEvent("DELETED", owned("Job", "child-uid", "FineTuneJob", JOB)))
    senders.check("good", JOB)


def test_a_pod_whose_job_is_not_heard_of_yet_should_try_again(senders, cache, reviews):
    cache.apply(WatchEvent("ADDED", owned("Pod", "early-pod", "Job", "early-child")))
    reviews.pods = ["early-pod"]
    with pytest.raises(UnknownPodError, match="the Job of pod early-pod"):
        senders.check("good", JOB)


def test_a_review_that_fails_is_not_remembered(senders, reviews):
    reviews.error = ClusterError("unavailable")
    with pytest.raises(ClusterError):
        senders.check("good", JOB)
    reviews.error = None
    senders.check("good", JOB)
