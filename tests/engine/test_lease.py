"""At most one candidate leads at any time, even if another candidate or the API server fails."""

import threading
from collections.abc import Callable
from datetime import datetime

import pytest

from support.clock import FakeClock
from support.fake_cluster import FakeCluster
from tunegate_operator.engine.cluster import ClusterError, Key, Object
from tunegate_operator.engine.kubernetes import LEASE_SECONDS
from tunegate_operator.engine.lease import DURATION, RENEW_DEADLINE, RETRY, Lease

KEY = Key("Lease", "tunegate", "tunegate-operator")


class Stop(threading.Event):
    """Advances the clock while the candidate waits, and calls ``on_wait`` with the number of the wait."""

    def __init__(self, clock: FakeClock, waits: int, on_wait: Callable[[int], None] = lambda _: None) -> None:
        super().__init__()
        self._clock, self._left, self._on_wait, self._count = clock, waits, on_wait, 0

    def wait(self, timeout: float | None = None) -> bool:
        self._on_wait(self._count)
        self._clock.advance(timeout or 0)
        self._count += 1
        self._left -= 1
        return self.is_set() or self._left < 0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cluster(clock: FakeClock) -> FakeCluster:
    return FakeCluster(clock)


def candidate(cluster: FakeCluster, clock: FakeClock, name: str) -> Lease:
    return Lease(cluster, clock, KEY.namespace, KEY.name, name)


def holder(cluster: FakeCluster) -> str | None:
    lease = cluster.as_user.get(KEY)
    assert lease is not None
    found: str | None = lease["spec"].get("holderIdentity")
    return found


def test_first_candidate_leads_and_releases_the_lease(cluster, clock):
    started, seen = [], []
    stop = Stop(clock, 3, lambda _: seen.append(holder(cluster)))
    assert candidate(cluster, clock, "a").lead(lambda: started.append(1), stop)
    assert started == [1]
    assert seen == ["a"] * 4
    assert holder(cluster) is None


def test_second_candidate_waits_while_the_first_renews(cluster, clock):
    first, started = candidate(cluster, clock, "a"), []
    assert first._try_to_hold()
    stop = Stop(clock, 30, lambda _: first._try_to_hold())
    candidate(cluster, clock, "b").lead(lambda: started.append(1), stop)
    assert started == []
    assert holder(cluster) == "a"


def test_lease_of_a_dead_holder_is_taken_after_expiry(cluster, clock):
    candidate(cluster, clock, "a")._try_to_hold()
    began, started = clock.monotonic(), []
    stop = Stop(clock, 20)
    candidate(cluster, clock, "b").lead(lambda: started.append(clock.monotonic() - began), stop)
    (after,) = started
    assert DURATION <= after <= DURATION + RETRY
    lease = cluster.as_user.get(KEY)
    assert lease is not None
    assert lease["spec"]["leaseTransitions"] == 1


def test_released_lease_is_taken_at_once(cluster, clock):
    candidate(cluster, clock, "a").lead(lambda: None, Stop(clock, 0))
    started = []
    candidate(cluster, clock, "b").lead(lambda: started.append(1), Stop(clock, 0))
    assert started == [1]


def test_candidate_ignores_the_times_in_the_lease(cluster, clock):
    """A candidate measures how long it saw no change, and ignores the times in the Lease."""
    candidate(cluster, clock, "a")._try_to_hold()
    lease = cluster.as_user.get(KEY)
    assert lease is not None
    lease["spec"]["renewTime"] = "2001-01-01T00:00:00.000000Z"
    cluster.as_user.replace(lease)
    second = candidate(cluster, clock, "b")
    assert not second._try_to_hold()
    clock.advance(DURATION - 1)
    assert not second._try_to_hold()


def test_leader_that_cannot_renew_stops_before_its_lease_expires(cluster, clock):
    began, stop = clock.monotonic(), Stop(clock, 50)

    def started() -> None:
        cluster._is_unavailable = True

    assert not candidate(cluster, clock, "a").lead(started, stop)
    assert RENEW_DEADLINE <= clock.monotonic() - began < DURATION


def test_leader_stops_as_soon_as_it_sees_another_holder(cluster, clock):
    def take_over(_: int) -> None:
        lease = cluster.as_user.get(KEY)
        assert lease is not None
        lease["spec"]["holderIdentity"] = "b"
        cluster.as_user.replace(lease)

    began = clock.monotonic()
    assert not candidate(cluster, clock, "a").lead(lambda: None, Stop(clock, 50, take_over))
    assert clock.monotonic() - began == RETRY
    assert holder(cluster) == "b"


def test_only_one_of_two_simultaneous_candidates_leads(cluster, clock):
    """If two candidates take the Lease at the same time, the second write is refused with a conflict."""
    a, b = candidate(cluster, clock, "a"), candidate(cluster, clock, "b")
    lease = cluster.get
    between = iter([None])

    def get(key: Key) -> object:
        found = lease(key)
        if next(between, "over") is None:
            assert b._try_to_hold()
        return found

    cluster.get = get  # type: ignore[method-assign,assignment]
    assert not a._try_to_hold()
    assert holder(cluster) == "b"


@pytest.mark.parametrize("slow_renewals", [0, 1, 3])
def test_leader_with_slow_api_server_stops_before_lease_expiry(cluster, clock, slow_renewals):
    """The leader must measure its deadline from the moment when it sent the last renewal, because other
    candidates may see the renewal before the answer arrives. Each request may last until its timeout."""
    get, replace, left = cluster.get, cluster.replace, [slow_renewals]

    def slow_get(key: Key) -> object:
        clock.advance(LEASE_SECONDS)
        return get(key)

    def slow_replace(obj: Object) -> Object:
        clock.advance(LEASE_SECONDS)
        left[0] -= 1
        if left[0] < 0:
            raise ClusterError("no answer")
        return replace(obj)

    def started() -> None:
        cluster.get, cluster.replace = slow_get, slow_replace

    assert not candidate(cluster, clock, "a").lead(started, Stop(clock, 50))
    lease = cluster.as_user.get(KEY)
    assert lease is not None
    renewed = datetime.fromisoformat(lease["spec"]["renewTime"])
    assert (clock.now() - renewed).total_seconds() < DURATION


MALFORMED = {
    "no spec": None,
    "a spec that is a list": ["b"],
    "an empty spec": {},
    "words for numbers": {"holderIdentity": "b", "leaseDurationSeconds": "soon", "leaseTransitions": "many"},
    "nulls": {"holderIdentity": "b", "leaseDurationSeconds": None, "leaseTransitions": None},
    "a negative duration": {"holderIdentity": "b", "leaseDurationSeconds": -5},
    "a holder that is an object": {"holderIdentity": {"name": "b"}},
}


def put_lease(cluster: FakeCluster, spec: object) -> None:
    """Create or overwrite the Lease, as a person might by hand."""
    current = cluster.as_user.get(KEY)
    lease: Object = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": current["metadata"] if current else {"name": KEY.name, "namespace": KEY.namespace},
        "spec": spec,
    }
    if current:
        cluster.as_user.replace(lease)
    else:
        cluster.as_user.create(lease)


@pytest.mark.parametrize("spec", MALFORMED.values(), ids=MALFORMED)
def test_malformed_lease_is_taken_over_after_it_expires(cluster, clock, spec):
    put_lease(cluster, spec)
    began, started = clock.monotonic(), []
    stop = Stop(clock, 20)
    candidate(cluster, clock, "a").lead(lambda: started.append(clock.monotonic() - began), stop)
    (after,) = started
    assert after <= DURATION + RETRY
    if isinstance(spec, dict) and spec:
        assert after >= DURATION, "its holder may still be active"
    lease = cluster.as_user.get(KEY)
    assert lease is not None
    assert lease["spec"]["leaseDurationSeconds"] == 1, "well-formed, and released"


def test_malformed_lease_is_logged_once_with_its_field(cluster, clock, caplog):
    put_lease(cluster, MALFORMED["words for numbers"])
    candidate(cluster, clock, "a").lead(lambda: None, Stop(clock, 20))
    (message,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert "tunegate-operator" in message
    assert "spec.leaseDurationSeconds" in message
    assert "'soon'" in message


@pytest.mark.parametrize("spec", [None, {}, ["a"], {"leaseTransitions": "many"}])
def test_leader_repairs_a_lease_that_became_malformed(cluster, clock, spec):
    stop = Stop(clock, 5, lambda n: put_lease(cluster, spec) if n == 2 else None)
    assert candidate(cluster, clock, "a").lead(lambda: None, stop)
    lease = cluster.as_user.get(KEY)
    assert lease is not None
    assert isinstance(lease["spec"]["leaseTransitions"], int)


@pytest.mark.parametrize("spec", [None, ["a"], {}])
def test_leader_stops_cleanly_with_a_malformed_lease(cluster, clock, spec):
    stop = Stop(clock, 0, lambda _: put_lease(cluster, spec))
    assert candidate(cluster, clock, "a").lead(lambda: None, stop)


def test_leader_stops_if_it_cannot_replace_a_malformed_lease(cluster, clock):
    def meddle(n: int) -> None:
        if n == 1:
            put_lease(cluster, ["b"])
            cluster.refuse("Lease", "no")

    began = clock.monotonic()
    assert not candidate(cluster, clock, "a").lead(lambda: None, Stop(clock, 50, meddle))
    assert clock.monotonic() - began < DURATION
