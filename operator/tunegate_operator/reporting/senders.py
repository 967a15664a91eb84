"""Who sends a report: the token says which pod, the cache whose pod that is."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable

from tunegate_api.contract import report_audience
from tunegate_operator.engine.cache import Cache
from tunegate_operator.engine.clock import Clock
from tunegate_operator.engine.cluster import Object

REMEMBERED_SECONDS = 300.0
"""How long a token that was reviewed is believed without asking again."""
REMEMBERED_TOKENS = 4096

Review = Callable[[str, str], Object]
"""Token and audience to the status of a TokenReview."""
_POD_UID = "authentication.kubernetes.io/pod-uid"


class RefusedError(Exception):
    """This sender may not report on this job."""


class UnknownPodError(Exception):
    """The pod is real, but the watch has not told us of it yet: the sender should try again."""


class Senders:
    """Checks senders. Thread-safe."""

    def __init__(self, review: Review, cache: Cache, clock: Clock) -> None:
        self._review = review
        self._cache = cache
        self._clock = clock
        self._lock = threading.Lock()
        self._reviewed: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def check(self, token: str, job_uid: str) -> None:
        """Raises RefusedError unless the token is of a pod of this job, and made for reporting on it.

        Raises UnknownPodError as well, and ClusterError when the API server could not be asked.
        """
        pod_uid = self._pod_uid(token, report_audience(job_uid))
        pod = self._cache.by_uid(pod_uid)
        if pod is None or pod["kind"] != "Pod":
            raise UnknownPodError(f"pod {pod_uid} is not known yet")
        owners = self._cache.owners(pod)  # of a deleted Job too, whose pod is still saving
        if len(owners) == 1:
            raise UnknownPodError(f"the Job of pod {pod_uid} is not known yet")
        if job_uid not in {owner.uid for owner in owners[1:]}:
            raise RefusedError("the token is of a pod of another job")

    def _pod_uid(self, token: str, audience: str) -> str:
        """The uid of the pod that the token was made for."""
        key = hashlib.sha256(f"{audience}\n{token}".encode()).hexdigest()
        now = self._clock.monotonic()
        with self._lock:
            until, known = self._reviewed.get(key, (0.0, ""))
            if now < until:
                return known
        status = self._review(token, audience)
        if not status.get("authenticated") or audience not in status.get("audiences", ()):
            raise RefusedError("the token is not one for reporting on this job, or has expired")
        uids = status.get("user", {}).get("extra", {}).get(_POD_UID, ())
        if len(uids) != 1:
            raise RefusedError("the token is not bound to a pod")
        uid: str = uids[0]
        with self._lock:
            self._reviewed[key] = (now + REMEMBERED_SECONDS, uid)
            while len(self._reviewed) > REMEMBERED_TOKENS:
                self._reviewed.popitem(last=False)
        return uid
