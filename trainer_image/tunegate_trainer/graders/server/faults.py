"""The kinds of faults of an inference server. A request with a fault has no answer."""

from enum import StrEnum

from tunegate_trainer.process.errors import TrainerError


class Fault(StrEnum):
    """Why a request has no answer that can be used."""

    RATE_LIMITED = "RateLimited"
    """The server asked to wait: status 429."""
    SERVER_ERROR = "ServerError"
    """The server failed: status 500 or above."""
    UNREACHABLE = "Unreachable"
    """The connection failed."""
    TIMED_OUT = "TimedOut"
    """The answer took too long."""
    MALFORMED = "Malformed"
    """The answer does not have the form that was asked for."""
    TRUNCATED = "Truncated"
    """The answer reached the token limit. A retry would give the same one, because the temperature is 0."""
    REFUSED = "Refused"
    """The server refuses this request: its text is too long for the model, or a content filter stopped it."""
    NOT_SENT = "NotSent"
    """The deadline passed before there was an answer."""

    @property
    def is_outage(self) -> bool:
        """Whether the server did not process the request, so that other requests may have the same fault."""
        return self in (Fault.RATE_LIMITED, Fault.SERVER_ERROR, Fault.UNREACHABLE, Fault.TIMED_OUT)


MAX_RETRIES = {
    Fault.RATE_LIMITED: 8,
    Fault.SERVER_ERROR: 5,
    Fault.UNREACHABLE: 5,
    Fault.TIMED_OUT: 2,
    Fault.MALFORMED: 2,
    Fault.TRUNCATED: 0,
    Fault.REFUSED: 0,
}
"""How often a request is repeated after each kind of fault."""


class FaultError(Exception):
    """A request without an answer. Its text says what happened, without content of the request or
    credentials."""

    def __init__(
        self,
        fault: Fault,
        text: str,
        retry_after: float | None = None,
        before_answers: TrainerError | None = None,
    ) -> None:
        super().__init__(text)
        self.fault = fault
        self.retry_after = retry_after
        """The number of seconds that the server asks to wait; None if it does not."""
        self.before_answers = before_answers
        """The error of the spec that explains the fault if the server has given no answer yet; None if there
        is none."""
