"""Turn the error answers of an API server into exceptions. Their class determines how callers handle them."""

from tunegate_operator.engine.cluster import (
    AlreadyExistsError,
    ClusterError,
    ConflictError,
    ForbiddenError,
    InvalidObjectError,
    NotFoundError,
    Object,
    RequestRefusedError,
    TerminatingError,
    UnauthorizedError,
    UnavailableError,
    UnknownKindError,
)
from tunegate_operator.engine.objects import read_json

_ADMISSION_MESSAGES = ("ValidatingAdmissionPolicy", "denied the request")
"""Texts that identify a refusal by an admission policy or webhook, which may accept the same object later."""
_TEMPORARY = (408, 429)
"""HTTP status codes below 500 after which a retry may succeed: a timeout, and too many requests."""


class ExpiredError(ClusterError):
    """The server no longer has the resourceVersion from which a watch or list should resume (HTTP 410)."""


def error_of_answer(code: int, text: bytes, request: str) -> ClusterError:
    """Return the error for an answer with this HTTP status code and body. ``request`` is for the message."""
    try:
        status: Object = read_json(text)
    except ValueError:
        return _error_without_status(code, f"{request}: the answer ({code}) is not JSON")
    return error_of(code, status)


def error_of(code: int, status: Object) -> ClusterError:
    """Return the error for a ``Status`` object of the API server."""
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
        return InvalidObjectError(message)
    return UnavailableError(message) if code >= 500 else _refused(code, message)


def _error_without_status(code: int, message: str) -> ClusterError:
    """Return the error for an answer that is not JSON. A proxy may send it, and an API server that does not
    know a kind sends the text "404 page not found"."""
    if code == 404:
        return UnknownKindError(message)
    return ClusterError(message) if code >= 500 else _refused(code, message)


def _refused(code: int, message: str) -> ClusterError:
    """Return the error for a status code below 500 that does not depend on the object."""
    if code == 401:
        return UnauthorizedError(message)
    return ClusterError(message) if code in _TEMPORARY else RequestRefusedError(message)
