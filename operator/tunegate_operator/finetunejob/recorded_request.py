"""Read the recorded request of a job, and compare it with the digest in the job's status.

A job that has started is judged by its request alone. If its request were made again, from the gates as they
are now, whoever may delete a ConfigMap could loosen the gates of a running job.
"""

from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.request import Request
from tunegate_api.meta import Sha256
from tunegate_api.v1alpha2 import FineTuneJob
from tunegate_operator.children.records import parse_record, record_text
from tunegate_operator.engine.controller import View
from tunegate_operator.finetunejob.build import owner_of
from tunegate_operator.names import REQUEST_KEY, request_name


class RequestChangedError(Exception):
    """The ConfigMap with the request of a job that has started was deleted or replaced."""


def read_request(job: FineTuneJob, view: View, *, has_children: bool) -> tuple[Request, Sha256] | None:
    """Return the request of a job, and the digest of its text. Return None if the job has not started, or if
    it has ended and its request was deleted.

    The name of a request in status proves that the job has started. ``has_children`` is whether the job has
    child Jobs. They prove it too, because the operator may have ended before it wrote the first status. A
    request that the cache lacks is read from the cluster, because the cache may lag.

    Raises :class:`RequestChangedError`, UnreadableRecordError and ClusterError.
    """
    meta, status, owner = job.metadata, job.status, owner_of(job)
    name = request_name(meta.name, meta.uid)
    has_started = status.request is not None or has_children
    text = record_text(view, owner, name, REQUEST_KEY)
    if text is None and has_started:
        text = record_text(view, owner, name, REQUEST_KEY, is_cached=False)
    if text is None:
        if has_started and not (status.phase and status.phase.is_final):
            raise RequestChangedError(
                f"ConfigMap {name}, the request with which the job started, was deleted"
            )
        return None
    request, sha256 = parse_record(name, REQUEST_KEY, text, Request), sha256_text(text)
    if status.request_sha256 not in (None, sha256):
        raise RequestChangedError(
            f"ConfigMap {name} is not the request with which the job started: its {REQUEST_KEY} has sha256 "
            f"{sha256} instead of {status.request_sha256}"
        )
    return request, sha256
