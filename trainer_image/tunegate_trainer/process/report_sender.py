"""Brings reports to the operator: posts what lies in the outbox until each file is acknowledged.

A thread of its own, so that neither training nor evaluation ever waits for the network. What is left when a
pod ends, the job's next pod delivers.
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

from tunegate_api.contract import REPORT_CA_VARIABLE, REPORT_URL_VARIABLE
from tunegate_trainer.process.backoff import backoff
from tunegate_trainer.process.files import write_atomic

logger = logging.getLogger(__name__)

ACKNOWLEDGED = "acknowledged"
"""In the outbox, as JSON: the name of each report to the sequence number that the operator acknowledged."""
FINAL = (404, 413, 422)
"""Answers to a report that will not change: no such job, too large, not for this pod to send. The report is
not sent again, but a newer report of its role and stage is, and the job's next pod tries once more."""
REQUEST_SECONDS = 30.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
"""Seconds between tries: doubling from the first to the longest. There is no last one but the pod's end."""
PROGRESS_SECONDS = 10.0
"""Time between two posts that tell progress alone."""
CLOSING_PAUSE = 2.0
"""The longest pause once the pod is about to end."""
CLOSING_SECONDS = 60.0
"""How long an ending pod waits for its reports to be acknowledged."""


@dataclass(frozen=True)
class ReportAddress:
    """Where to post, and how to trust that address and be trusted by it."""

    url: str
    authority: str
    token_file: Path

    @classmethod
    def from_environment(cls, root: Path) -> "ReportAddress | None":
        """None on a laptop, where files are all of the reporting."""
        url = os.environ.get(REPORT_URL_VARIABLE)
        if not url:
            return None
        return cls(url, os.environ[REPORT_CA_VARIABLE], root / "report" / "token")


class Courier:
    """Posts the files of one outbox. Call :meth:`notify` after writing one, and :meth:`close` at the end."""

    def __init__(self, address: ReportAddress, outbox: Path) -> None:
        self._address = address
        self._outbox = outbox
        tls = urllib.request.HTTPSHandler(context=ssl.create_default_context(cadata=address.authority))
        # The operator is in the cluster: a proxy that the pod's environment names for the world is not asked.
        self._opener = urllib.request.build_opener(tls, urllib.request.ProxyHandler({}))
        self._acknowledged = self._read_acknowledged()
        self._changed = threading.Event()
        self._urgent = threading.Event()
        self._closing_until: float | None = None
        self._refused: dict[str, tuple[int, str]] = {}
        """Sequence number and answer, by the name of a report."""
        self._damaged: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)
        self._thread.start()

    def notify(self, *, urgent: bool) -> None:
        """There is something new in the outbox; what is not urgent may wait for more of its kind."""
        if urgent:
            self._urgent.set()
        self._changed.set()

    def close(self) -> bool:
        """Wait a bounded time for the rest to be acknowledged; says whether all was."""
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
            logger.warning("the operator did not acknowledge %s; the job's next pod will send it", names)
        return not left

    @property
    def refusals(self) -> str:
        """What the operator refused for good, and why; empty if nothing."""
        return "; ".join(f"{name}: {said}" for name, (_, said) in sorted(self._refused.items()))

    def _run(self) -> None:
        pauses = backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            self._changed.clear()
            self._urgent.clear()
            if self._is_delivered():
                pauses = backoff(FIRST_PAUSE, LONGEST_PAUSE)
                if self._closing_until is not None:
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
        """Post what is left to post; says whether nothing of it is. A volume that cannot be read for a moment
        is one more try."""
        try:
            arrived = [self._deliver(path) for path in self._undecided()]
        except OSError as error:
            logger.warning("the outbox cannot be read: %s; retrying", error)
            return False
        return all(arrived)

    def _pending(self) -> list[Path]:
        """The reports that the operator has not acknowledged as they are now."""
        found = sorted(self._outbox.glob("*.json"))
        return [
            path
            for path in found
            if self._sequence(path.name, path.read_bytes()) > self._acknowledged.get(path.name, 0)
        ]

    def _sequence(self, name: str, report: bytes) -> int:
        """The number of a report; 0 of a damaged one, which is not sent."""
        try:
            return int(json.loads(report)["sequence"])
        except (ValueError, KeyError, TypeError) as error:
            if name not in self._damaged:
                self._damaged.add(name)
                logger.warning("%s is damaged and not sent: %s: %s", name, type(error).__name__, error)
            return 0

    def _undecided(self) -> list[Path]:
        """Those of them that are worth sending: what was refused for good is not, until it changes."""
        return [
            path
            for path in self._pending()
            if path.name not in self._refused
            or self._sequence(path.name, path.read_bytes()) > self._refused[path.name][0]
        ]

    def _deliver(self, path: Path) -> bool:
        """Post a report; says whether it was acknowledged."""
        body = path.read_bytes()
        try:
            self._post(body)
        except (OSError, HTTPException) as error:
            said = _said(error)
            if isinstance(error, urllib.error.HTTPError) and error.code in FINAL:
                self._refused[path.name] = self._sequence(path.name, body), said
                logger.warning("the operator refused %s: %s; it stays on the volume", path.name, said)
            else:
                logger.warning("%s was not acknowledged: %s; sending it again", path.name, said)
            return False
        self._refused.pop(path.name, None)
        self._acknowledged[path.name] = self._sequence(path.name, body)
        try:
            write_atomic(self._outbox / ACKNOWLEDGED, json.dumps(self._acknowledged))
        except OSError as error:  # then the job's next pod sends it once more
            logger.warning("cannot record that %s was acknowledged: %s", path.name, error)
        return True

    def _post(self, body: bytes) -> None:
        # The token is read each time, because kubelet renews it.
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


def _said(error: Exception) -> str:
    """What the operator answered, if it did."""
    if isinstance(error, urllib.error.HTTPError):
        try:
            return f"{error.code}: {json.loads(error.read())['message']}"
        except (ValueError, KeyError, TypeError, OSError, HTTPException):
            return f"HTTP {error.code}"
    return str(error)
