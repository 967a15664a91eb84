"""Send reports to the operator: post each file of the outbox until it is acknowledged.

Reports are sent in a thread, so that training and evaluation never wait for the network. If a pod ends with
unsent reports, the job's next pod sends them.
"""

import json
import logging
import os
import ssl
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from tunegate_api.backoff import backoff_pauses
from tunegate_api.contract.report import REPORT_CA_VARIABLE, REPORT_URL_VARIABLE
from tunegate_trainer.process.files import write_atomic

logger = logging.getLogger(__name__)

ACKNOWLEDGED = "acknowledged"
"""A JSON file in the outbox: the acknowledged sequence number of each report, by the report's name."""
FINAL = (404, 413, 422)
"""Statuses of permanent errors: no such job, too large, invalid or not allowed for this pod. The refused
version of the report is not retried. A newer version is sent, and the job's next pod sends the refused one
once more."""
REQUEST_SECONDS = 30.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
"""Seconds before the first retry, and the maximum. The pause doubles with each retry. Retries continue until
the pod ends."""
PROGRESS_SECONDS = 10.0
"""Maximum delay in seconds of a report that only changes progress. A change that is urgent is sent at
once."""
CLOSING_PAUSE = 2.0
"""Maximum number of seconds between retries while an ending pod waits in :meth:`ReportSender.close`."""
CLOSING_SECONDS = 60.0
"""Number of seconds that an ending pod waits for its reports to be acknowledged. A request that is already
running may take ``REQUEST_SECONDS`` longer."""


@dataclass(frozen=True)
class ReportAddress:
    """The operator's URL, its certificate authority, and the token that authenticates this pod."""

    url: str
    authority: str
    token_file: Path

    @classmethod
    def from_environment(cls, root: Path) -> "ReportAddress | None":
        """Return the address from the environment; None on a laptop, where reports are only written to
        files."""
        url = os.environ.get(REPORT_URL_VARIABLE)
        if not url:
            return None
        return cls(url, os.environ[REPORT_CA_VARIABLE], root / "report" / "token")


class ReportSender:
    """Posts the files of an outbox. Call :meth:`notify` after writing a file, and :meth:`close` at the
    end."""

    def __init__(self, address: ReportAddress, outbox: Path) -> None:
        self._address = address
        self._outbox = outbox
        tls = urllib.request.HTTPSHandler(context=ssl.create_default_context(cadata=address.authority))
        # The operator is in the cluster, so the pod's proxy settings are ignored.
        self._opener = urllib.request.build_opener(tls, urllib.request.ProxyHandler({}))
        self._acknowledged = self._read_acknowledged()
        self._changed = threading.Event()
        self._urgent = threading.Event()
        self._closing_until: float | None = None
        self._refused: dict[str, tuple[int, str]] = {}
        """The sequence number of each refused report and the operator's answer, by the report's name."""
        self._damaged: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="report-sender", daemon=True)
        self._thread.start()

    def notify(self, *, urgent: bool) -> None:
        """Announce a new or changed report in the outbox. A report that is not urgent is sent within
        ``PROGRESS_SECONDS``, together with later changes."""
        if urgent:
            self._urgent.set()
        self._changed.set()

    def close(self) -> bool:
        """Wait for the remaining acknowledgements, with a timeout. Return whether all reports are
        acknowledged."""
        self._closing_until = time.monotonic() + CLOSING_SECONDS
        self.notify(urgent=True)
        self._thread.join(CLOSING_SECONDS + REQUEST_SECONDS)
        try:
            left = self._pending()
        except OSError as error:
            logger.warning("the outbox cannot be read: %s; the job's next pod will send what is left", error)
            return False
        if left:
            names = ", ".join(path.name for path in left)
            logger.warning(
                "the operator did not acknowledge these reports; the job's next pod will send them: %s", names
            )
        return not left

    @property
    def refusals(self) -> str:
        """The names of reports that the operator refused permanently, with the operator's answers. Empty if
        there are none."""
        return "; ".join(f"{name}: {answer}" for name, (_, answer) in sorted(self._refused.items()))

    def _run(self) -> None:
        pauses = backoff_pauses(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            self._changed.clear()
            self._urgent.clear()
            # Read before the outbox: a report may be written while an earlier one is posted.
            is_closing = self._closing_until is not None
            if self._is_delivered():
                pauses = backoff_pauses(FIRST_PAUSE, LONGEST_PAUSE)
                if is_closing:
                    return
                self._changed.wait()
                self._urgent.wait(PROGRESS_SECONDS)
                continue
            pause = next(pauses)
            if self._closing_until is None:
                self._urgent.wait(pause)
            elif time.monotonic() < self._closing_until:
                time.sleep(min(pause, CLOSING_PAUSE))
            else:
                return

    def _is_delivered(self) -> bool:
        """Post all pending reports that were not refused. Return whether all of them were acknowledged.

        If the outbox cannot be read, return False, so that the caller retries.
        """
        try:
            arrived = [self._deliver(path) for path in self._undecided()]
        except OSError as error:
            logger.warning("the outbox cannot be read: %s; retrying", error)
            return False
        return all(arrived)

    def _pending(self) -> list[Path]:
        """Return the reports whose latest version the operator has not acknowledged."""
        found = sorted(self._outbox.glob("*.json"))
        return [
            path
            for path in found
            if self._sequence(path.name, path.read_bytes()) > self._acknowledged.get(path.name, 0)
        ]

    def _sequence(self, name: str, report: bytes) -> int:
        """Return the sequence number of a report. Returns 0 for a damaged report, which is never sent."""
        try:
            return int(json.loads(report)["sequence"])
        except (ValueError, KeyError, TypeError) as error:
            if name not in self._damaged:
                self._damaged.add(name)
                logger.warning("report %s is damaged and not sent: %s: %s", name, type(error).__name__, error)
            return 0

    def _undecided(self) -> list[Path]:
        """Return the pending reports to send. Reports that were refused and have not changed since are left
        out."""
        return [
            path
            for path in self._pending()
            if path.name not in self._refused
            or self._sequence(path.name, path.read_bytes()) > self._refused[path.name][0]
        ]

    def _deliver(self, path: Path) -> bool:
        """Post a report. Return whether it was acknowledged."""
        body = path.read_bytes()
        try:
            self._post(body)
        except (OSError, HTTPException) as error:
            answer = _answer_of(error)
            if isinstance(error, urllib.error.HTTPError) and error.code in FINAL:
                self._refused[path.name] = self._sequence(path.name, body), answer
                logger.warning(
                    "the operator refused report %s: %s; it stays on the volume", path.name, answer
                )
            else:
                logger.warning("report %s was not acknowledged: %s; retrying", path.name, answer)
            return False
        self._refused.pop(path.name, None)
        self._acknowledged[path.name] = self._sequence(path.name, body)
        try:
            write_atomic(self._outbox / ACKNOWLEDGED, json.dumps(self._acknowledged))
        except OSError as error:  # the job's next pod sends the report again
            logger.warning("cannot record that report %s was acknowledged: %s", path.name, error)
        return True

    def _post(self, body: bytes) -> None:
        # Read the token each time, because kubelet renews it.
        token = self._address.token_file.read_text(encoding="utf-8").strip()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        compact = json.dumps(json.loads(body), separators=(",", ":"), ensure_ascii=False).encode()
        request = urllib.request.Request(self._address.url, compact, headers, method="POST")  # noqa: S310 - ours
        with self._opener.open(request, timeout=REQUEST_SECONDS):
            pass

    def _read_acknowledged(self) -> dict[str, int]:
        try:
            found: dict[str, int] = json.loads((self._outbox / ACKNOWLEDGED).read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return found


def _answer_of(error: Exception) -> str:
    """Return the operator's answer. If the operator did not answer, return the text of ``error``."""
    if isinstance(error, urllib.error.HTTPError):
        try:
            return f"{error.code}: {json.loads(error.read())['message']}"
        except (ValueError, KeyError, TypeError, OSError, HTTPException):
            return f"HTTP {error.code}"
    return str(error)
