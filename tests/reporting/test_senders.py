"""Only a pod of the job may send reports about the job, with a token whose audience is reports about the
job."""

from typing import Any

import pytest

from support.clock import FakeClock
from tunegate_api import API_VERSION
from tunegate_api.contract.process import Role
from tunegate_api.contract.report import report_audience
from tunegate_operator.engine.cache import Cache
from tunegate_operator.engine.cluster import ClusterError, Object, WatchEvent
from tunegate_operator.names import ATTEMPT_LABEL, JOB_LABEL, MANAGED_LABELS, ROLE_LABEL, STAGE_LABEL, Step
from tunegate_operator.reporting.senders import (
    REFUSED_SECONDS,
    REMEMBERED_SECONDS,
    REMEMBERED_TOKENS,
    ForbiddenSenderError,
    SenderAuthenticator,
    UnknownPodError,
)

JOB = "job-uid"
LABELS = MANAGED_LABELS | {JOB_LABEL: JOB, ROLE_LABEL: "train", STAGE_LABEL: "sft", ATTEMPT_LABEL: "2"}
OWNERS = {"FineTuneJob": API_VERSION, "Job": "batch/v1", "CronJob": "batch/v1", "Widget": API_VERSION}


def make_object(kind: str, uid: str, namespace: str = "default", **metadata: Any) -> Object:
    """Build an object whose uid is the same as its name."""
    own = {"name": uid, "namespace": namespace, "uid": uid, "resourceVersion": "1"}
    return {"apiVersion": OWNERS.get(kind, "v1"), "kind": kind, "metadata": own | metadata}


def make_job(uid: str = JOB, namespace: str = "default", attempts: tuple[Object, ...] = ()) -> Object:
    obj = make_object("FineTuneJob", uid, namespace)
    return obj | {"spec": {"stages": [{"name": "sft"}, {"name": "dpo"}]}, "status": {"attempts": [*attempts]}}


def make_owned(
    kind: str,
    uid: str,
    owner_kind: str,
    owner: str,
    namespace: str = "default",
    *,
    labels: dict[str, str] = LABELS,
    api_version: str | None = None,
    **metadata: Any,
) -> Object:
    reference = {"apiVersion": api_version or OWNERS[owner_kind], "kind": owner_kind, "name": owner}
    reference |= {"uid": owner, "controller": True}
    return make_object(kind, uid, namespace, ownerReferences=[reference], labels=labels, **metadata)


class Reviews:
    """Answers and counts TokenReviews, as the API server would answer them."""

    def __init__(self) -> None:
        self.count = 0
        self.pods = ["pod-uid"]
        self.username = "system:serviceaccount:default:default"
        self.name: str | None = None
        self.error: ClusterError | None = None

    def __call__(self, token: str, audience: str) -> Object:
        self.count += 1
        if self.error:
            raise self.error
        if not token.startswith("good") or audience != report_audience(JOB):
            return {"authenticated": False}
        prefix = "authentication.kubernetes.io/pod-"
        names = [self.name] if self.name else self.pods
        extra = {f"{prefix}uid": self.pods, f"{prefix}name": names} if self.pods else {}
        user = {"username": self.username, "extra": extra}
        return {"authenticated": True, "audiences": [audience], "user": user}


@pytest.fixture
def reviews() -> Reviews:
    return Reviews()


@pytest.fixture
def cache() -> Cache:
    cache = Cache()
    for obj in (
        make_job(),
        make_owned("Job", "child-uid", "FineTuneJob", JOB),
        make_owned("Pod", "pod-uid", "Job", "child-uid"),
        make_job("other-job"),
        make_owned(
            "Job", "other-child", "FineTuneJob", "other-job", labels=LABELS | {JOB_LABEL: "other-job"}
        ),
        make_owned("Pod", "other-pod", "Job", "other-child", labels=LABELS | {JOB_LABEL: "other-job"}),
    ):
        add(cache, obj)
    return cache


def add(cache: Cache, obj: Object) -> None:
    cache.apply(WatchEvent("ADDED", obj))


def delete(cache: Cache, uid: str) -> None:
    found = cache.by_uid(uid)
    assert found
    cache.apply(WatchEvent("DELETED", found))


def stop(cache: Cache, uid: str) -> None:
    """Mark a pod as terminating."""
    found = cache.by_uid(uid)
    assert found
    found["metadata"] |= {"resourceVersion": "2", "deletionTimestamp": "2026-01-01T00:02:00Z"}
    cache.apply(WatchEvent("MODIFIED", found))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def authenticator(reviews: Reviews, cache: Cache, clock: FakeClock) -> SenderAuthenticator:
    return SenderAuthenticator(reviews, cache, clock)


def test_pod_of_the_job_may_report(authenticator, reviews):
    sender = authenticator.authenticate("good", JOB)
    assert (sender.step, sender.attempt, sender.stages) == (Step(Role.TRAIN, "sft"), 2, ("sft", "dpo"))
    assert reviews.count == 1


def test_pod_of_a_large_job_is_asked_to_retry(authenticator, cache):
    large = make_job() | {"spec": {"podTemplate": {"affinity": {"x": "y" * 1_000_000}}}}
    large["metadata"]["resourceVersion"] = "2"
    cache.apply(WatchEvent("MODIFIED", large))
    with pytest.raises(UnknownPodError, match="too large"):
        authenticator.authenticate("good", JOB)


def test_accepted_token_is_cached_for_a_while(authenticator, reviews, clock):
    authenticator.authenticate("good", JOB)
    authenticator.authenticate("good", JOB)
    assert reviews.count == 1
    clock.advance(REMEMBERED_SECONDS + 1)
    authenticator.authenticate("good", JOB)
    assert reviews.count == 2


def test_refused_token_is_cached_for_a_while(authenticator, reviews, clock):
    for _ in range(100):
        with pytest.raises(ForbiddenSenderError, match="not valid for reports on this job"):
            authenticator.authenticate("bad", JOB)
    assert reviews.count == 1
    clock.advance(REFUSED_SECONDS + 1)
    assert not authenticator.is_cached("bad", JOB)
    with pytest.raises(ForbiddenSenderError):
        authenticator.authenticate("bad", JOB)
    assert reviews.count == 2


def test_many_refused_tokens_do_not_evict_accepted_token_from_cache(authenticator, reviews):
    authenticator.authenticate("good", JOB)
    for n in range(REMEMBERED_TOKENS + 10):
        with pytest.raises(ForbiddenSenderError):
            authenticator.authenticate(f"bad-{n}", JOB)
    count = reviews.count
    authenticator.authenticate("good", JOB)
    assert reviews.count == count
    assert authenticator.is_cached("good", JOB)
    assert not authenticator.is_cached("bad-0", JOB), "the cache of refused tokens is bounded"


def test_token_of_another_audience_is_refused(authenticator):
    with pytest.raises(ForbiddenSenderError, match="not valid for reports on this job"):
        authenticator.authenticate("good", "other-job")


def test_token_of_another_jobs_pod_is_refused(authenticator, reviews):
    reviews.pods = ["other-pod"]
    with pytest.raises(ForbiddenSenderError, match="another job"):
        authenticator.authenticate("good", JOB)


@pytest.mark.parametrize("change", [{"pods": []}, {"username": "mallory"}], ids=["no pod", "a person"])
def test_token_that_is_not_bound_to_a_pod_is_refused(authenticator, reviews, change):
    vars(reviews).update(change)
    with pytest.raises(ForbiddenSenderError, match="not bound to a pod"):
        authenticator.authenticate("good", JOB)


@pytest.mark.parametrize("job_is_there", [True, False], ids=["with its Job", "after its Job"])
def test_pod_in_another_namespace_is_refused(authenticator, reviews, cache, job_is_there):
    """The pod's Job has the FineTuneJob's uid in its owner reference. Any user can create such a Job."""
    add(cache, make_owned("Job", "forged-child", "FineTuneJob", JOB, "attacker"))
    add(cache, make_owned("Pod", "forged-pod", "Job", "forged-child", "attacker"))
    if not job_is_there:
        delete(cache, "forged-child")
    reviews.pods, reviews.username = ["forged-pod"], "system:serviceaccount:attacker:default"
    with pytest.raises(
        ForbiddenSenderError, match="a pod in namespace attacker, but the job is in another namespace"
    ):
        authenticator.authenticate("good", JOB)


def test_foreign_pod_that_names_a_child_job_is_refused(authenticator, reviews, cache):
    add(cache, make_owned("Pod", "forged-pod", "Job", "child-uid", "attacker"))
    reviews.pods, reviews.username = ["forged-pod"], "system:serviceaccount:attacker:default"
    with pytest.raises(ForbiddenSenderError, match="a pod in namespace attacker"):
        authenticator.authenticate("good", JOB)


def test_pod_whose_kubernetes_job_is_in_another_namespace_is_refused(authenticator, reviews, cache):
    add(cache, make_owned("Job", "forged-child", "FineTuneJob", JOB, "attacker"))
    add(cache, make_owned("Pod", "forged-pod", "Job", "forged-child"))
    reviews.pods = ["forged-pod"]
    with pytest.raises(ForbiddenSenderError, match="the pod's Job is in another namespace"):
        authenticator.authenticate("good", JOB)


@pytest.mark.parametrize(("namespace", "name"), [("attacker", None), ("default", "another")])
def test_token_with_another_pods_name_or_namespace_is_refused(authenticator, reviews, namespace, name):
    reviews.username, reviews.name = f"system:serviceaccount:{namespace}:default", name
    with pytest.raises(
        ForbiddenSenderError,
        match="the pod name or namespace in the token is not that of the pod with its uid",
    ):
        authenticator.authenticate("good", JOB)


@pytest.mark.parametrize(
    ("child", "message"),
    [
        (make_owned("Job", "c", "Widget", JOB), "another job"),
        (make_owned("Job", "c", "FineTuneJob", JOB, api_version="example.com/v1"), "another job"),
        (make_owned("CronJob", "c", "FineTuneJob", JOB), "the pod's Job is in another namespace"),
        (make_owned("Job", "c", "FineTuneJob", JOB, labels={}), "does not have the labels"),
        (
            make_owned("Job", "c", "FineTuneJob", JOB, labels=LABELS | {JOB_LABEL: "x"}),
            "does not have the labels",
        ),
        (
            make_owned("Job", "c", "FineTuneJob", JOB, labels=LABELS | {ATTEMPT_LABEL: "3"}),
            "its label tunegate.dev/attempt is not that of the Job",
        ),
        (
            make_owned("Job", "c", "FineTuneJob", JOB, labels=LABELS | {ROLE_LABEL: "gate"}),
            "its label tunegate.dev/role is not that of the Job",
        ),
    ],
    ids=["other kind", "other group", "no Job", "no labels", "another job's", "attempt", "role"],
)
def test_pod_of_a_kubernetes_job_not_from_operator_is_refused(authenticator, reviews, cache, child, message):
    add(cache, child)
    add(cache, make_owned("Pod", "forged-pod", "Job", "c"))
    reviews.pods = ["forged-pod"]
    with pytest.raises(ForbiddenSenderError, match=message):
        authenticator.authenticate("good", JOB)


def test_pod_not_controlled_by_a_kubernetes_job_is_refused(authenticator, reviews, cache):
    add(cache, make_owned("Pod", "bare", "FineTuneJob", JOB))
    reviews.pods = ["bare"]
    with pytest.raises(ForbiddenSenderError, match="a pod that is not controlled by a Job"):
        authenticator.authenticate("good", JOB)


def test_pod_without_a_valid_role_label_is_refused(authenticator, reviews, cache):
    labels = LABELS | {ROLE_LABEL: "dance"}
    add(cache, make_owned("Job", "c", "FineTuneJob", JOB, labels=labels))
    add(cache, make_owned("Pod", "p", "Job", "c", labels=labels))
    reviews.pods = ["p"]
    with pytest.raises(ForbiddenSenderError, match="have no valid role or attempt"):
        authenticator.authenticate("good", JOB)


def test_deleted_pod_may_not_report(authenticator, cache):
    authenticator.authenticate("good", JOB)
    delete(cache, "pod-uid")
    with pytest.raises(UnknownPodError):
        authenticator.authenticate("good", JOB)


def test_report_on_a_deleted_finetunejob_is_refused(authenticator, cache):
    authenticator.authenticate("good", JOB)
    delete(cache, JOB)
    assert not authenticator.is_known_job(JOB)
    with pytest.raises(ForbiddenSenderError, match="there is no FineTuneJob"):
        authenticator.authenticate("good", JOB)


def test_pod_uid_is_not_a_known_job_uid(authenticator):
    assert authenticator.is_known_job(JOB)
    assert not authenticator.is_known_job("pod-uid")


def test_terminating_pod_may_report_after_its_child_job_was_deleted(authenticator, cache):
    authenticator.authenticate("good", JOB)
    delete(cache, "child-uid")
    with pytest.raises(UnknownPodError):  # until the garbage collector deletes it
        authenticator.authenticate("good", JOB)
    stop(cache, "pod-uid")
    assert authenticator.authenticate("good", JOB).attempt == 2


def test_pod_created_after_its_child_job_was_deleted_is_refused(authenticator, reviews, cache):
    delete(cache, "child-uid")
    add(cache, make_owned("Pod", "late-pod", "Job", "child-uid"))
    stop(cache, "late-pod")  # as the garbage collector does
    reviews.pods = ["late-pod"]
    with pytest.raises(ForbiddenSenderError, match="the Job of this pod was deleted"):
        authenticator.authenticate("good", JOB)


def test_pod_with_uncached_child_job_is_asked_to_retry(authenticator, cache, reviews):
    add(cache, make_owned("Pod", "early-pod", "Job", "early-child"))
    reviews.pods = ["early-pod"]
    with pytest.raises(UnknownPodError, match="the Job of pod early-pod"):
        authenticator.authenticate("good", JOB)


def test_failed_token_review_is_not_cached(authenticator, reviews):
    reviews.error = ClusterError("unavailable")
    with pytest.raises(ClusterError):
        authenticator.authenticate("good", JOB)
    reviews.error = None
    authenticator.authenticate("good", JOB)


def test_latest_attempt_is_the_highest_in_child_jobs_and_status(authenticator, cache):
    attempts = ({"role": "data", "number": 3}, {"role": "train", "stage": "sft", "number": 1})
    with_status = make_job(attempts=attempts)
    with_status["metadata"]["resourceVersion"] = "2"
    add(cache, with_status)
    forged = LABELS | {ROLE_LABEL: "data", ATTEMPT_LABEL: "99"}
    add(cache, make_owned("Job", "forged", "FineTuneJob", JOB, "attacker", labels=forged))
    assert authenticator.authenticate("good", JOB).latest_attempts == {
        Step(Role.DATA): 3,
        Step(Role.TRAIN, "sft"): 2,
    }
