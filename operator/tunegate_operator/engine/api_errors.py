"""Turn the error answers of an API server into exceptions."""

from tunegate_operator.engine.cluster import (
    AlreadyExistsError,
    ClusterError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    Object,
    TerminatingError,
    UnavailableError,
)


class ExpiredError(ClusterError):
    """The server no longer has the resourceVersion from which a watch or list should resume (HTTP 410)."""


_ADMISSION_MESSAGES = ("ValidatingAdmissionPolicy", "denied the request")
"""Texts that identify a refusal by an admission policy or webhook, which may accept the same object later."""


def error_of(code: int, status: Object) -> ClusterError:
    """Return the exception for an error answer of the API server. ``code`` is the HTTP status code of the
    answer, and ``status`` its body, a ``Status`` object."""
    message, reason = status.get("message") or f"HTTP {code}", status.get("reason", "")
    if code == 409:
        return AlreadyExistsError(message) if reason == "AlreadyExists" else ConflictError(message)
    if code == 404:
        return NotFoundError(message)
    if code == 410:
        return ExpiredError(message)
    causes = (status.get("details") or {}).get("causes") or ()
    if any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
        return TerminatingError(message)
    if code == 403 or (code in (400, 422) and any(word in message for word in _ADMISSION_MESSAGES)):
        return ForbiddenError(message)
    if code in (400, 413, 422):
        return InvalidError(message)
    return UnavailableError(message) if code >= 500 else ClusterError(message)
