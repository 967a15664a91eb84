"""Send a job's metrics to one tracker: ``python -m tunegate_trainer.tracking NAME ROLE``.

The process ends when its standard input is closed, after a last attempt. In the track role, it also ends as
soon as all metrics are sent. The exit code is 0 if the tracker has all metrics, else 1.
"""

import argparse
import logging
import select
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tunegate_api.contract.process import Role
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import CredentialsError
from tunegate_trainer.process.local_addresses import refuse_local_addresses
from tunegate_trainer.report.collect import collect
from tunegate_trainer.tracking.runs import runs_of
from tunegate_trainer.tracking.trackers import Tracker, open_tracker, prepare_environment

logger = logging.getLogger("tunegate.tracking")

FIRST_PAUSE, LONGEST_PAUSE = 10.0, 120.0
"""Seconds to wait after the first failed attempt, and the maximum. The pause doubles with each failure."""
BUSY_SHARE = 0.05
"""Maximum fraction of the time that this process spends on reading files and sending."""
MESSAGE_LENGTH = 600


class OutOfTime(BaseException):
    """An attempt to send exceeded its time limit. This class is not an ``Exception``, so that no client
    catches it and retries."""


def main(arguments: Sequence[str]) -> int:
    """Send metrics to one tracker until the pod's main process closes standard input. Return the exit
    code."""
    parser = argparse.ArgumentParser(prog="tunegate_trainer.tracking", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("role", type=Role)
    parser.add_argument("--failure")
    options = parser.parse_args(arguments)
    name: str = options.name
    logging.basicConfig(
        level=logging.ERROR,  # for the clients, which log a warning for each retry
        format=f"%(asctime)s %(levelname)s {name}: %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    logger.setLevel(logging.INFO)
    for number in (signal.SIGINT, signal.SIGTERM):  # the pod's main process decides when to end
        signal.signal(number, signal.SIG_IGN)
    refuse_local_addresses()
    context = Context(options.role)
    try:
        credentials = prepare_environment(context, name)
    except CredentialsError as error:
        logger.warning("%s; nothing is sent to this tracker", error)
        return 1
    return _send_until_end(context, open_tracker(context, name), credentials, options.failure)


def _send_until_end(
    context: Context, tracker: Tracker, credentials: Sequence[str], failure: str | None
) -> int:
    """Send new metrics until the pod ends, and make a last attempt at the end. Return 0 if the last attempt
    succeeded.

    In the track role there are no new metrics, so this function returns as soon as an attempt succeeds.
    """
    once = context.role is Role.TRACK
    wait = None if tracker.pause is None and not once else 0.0
    problem: str | None = None
    while True:
        closing = _ends_within(wait)
        started_at, before = time.monotonic(), problem
        problem = _attempt(context, tracker, credentials, failure)
        if problem and problem != before:
            logger.warning("%s; the job continues, and the missing metrics are sent later", problem)
        elif before and not problem:
            logger.info("the tracker is up to date again")
        if closing or (once and not problem):
            return 1 if problem else 0
        if problem:
            # Start from the usual pause, and double it.
            wait = min(2 * max(wait or 0.0, FIRST_PAUSE / 2), LONGEST_PAUSE)
        else:
            wait = max(tracker.pause or 0.0, (time.monotonic() - started_at) / BUSY_SHARE)


def _ends_within(seconds: float | None) -> bool:
    """Wait until the pod's main process closes standard input, but at most ``seconds``. Return whether it was
    closed.

    If ``seconds`` is None, there is no timeout.
    """
    ended, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(ended)


def _attempt(
    context: Context, tracker: Tracker, credentials: Sequence[str], failure: str | None
) -> str | None:
    """Send new metrics, with a timeout. Return None on success, otherwise the error in one line, with
    ``credentials`` redacted."""
    try:
        with _at_most(tracker.attempt_seconds):
            job = collect(context.workspace, context.request, decision=context.decision)
            tracker.send(runs_of(job, failure))
    except OutOfTime:
        return f"sending metrics timed out after {tracker.attempt_seconds} s"
    except Exception as error:  # noqa: BLE001 - a client may raise anything, and tracking continues
        return message_of(error, credentials)
    return None


def message_of(error: Exception, credentials: Sequence[str]) -> str:
    """Return the type and the first line of an error, at most ``MESSAGE_LENGTH`` characters of it.
    ``credentials`` in the message are redacted before it is cut."""
    message = str(error)
    for credential in credentials:
        message = message.replace(credential, "***")
    lines = message.strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:MESSAGE_LENGTH] if lines else ''}"


@contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    """Raise :class:`OutOfTime` if the block takes longer than ``seconds``. Works only in the main thread."""

    def expire(*_: object) -> None:
        raise OutOfTime

    signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
