"""Reports as files: what running pods leave in their job's outbox on a volume."""

import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.local_jobs import OWNER_ANNOTATION
from tunegate_operator.engine.local_pod_folder import FindVolume
from tunegate_operator.engine.reports import JobTooLargeError

log = logging.getLogger(__name__)

OUTBOX = "outbox"
ReportListener = Callable[[Object], None]


class Outboxes:
    """Reads each report when it changed. One thread may use it."""

    def __init__(self, find_volume: FindVolume) -> None:
        self._find_volume = find_volume
        self._listeners: list[ReportListener] = []
        self._seen: dict[Path, tuple[int, int, int]] = {}

    def watch(self, listener: ReportListener) -> None:
        """Call ``listener`` with every report from now on; those that lie there are read again."""
        self._listeners.append(listener)
        self._seen.clear()

    def poll(self, pods: Iterable[Object]) -> None:
        """Hand on what these pods reported since the last look."""
        for folder in sorted({folder for pod in pods for folder in self._outboxes(pod)}):
            for path in sorted(folder.glob("*.json")):
                self._read(path)

    def _outboxes(self, pod: Object) -> Iterable[Path]:
        owner = pod["metadata"].get("annotations", {}).get(OWNER_ANNOTATION)
        if owner is None:
            return
        for volume in pod["spec"].get("volumes", ()):
            if "persistentVolumeClaim" in volume:
                try:
                    root = self._find_volume(volume["persistentVolumeClaim"]["claimName"])
                except (KeyError, OSError):  # the pod's status says so
                    continue
                yield root / owner / OUTBOX

    def _read(self, path: Path) -> None:
        try:
            stat = path.stat()
            version = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if self._seen.get(path) == version:
                return
            report = json.loads(path.read_bytes())
        except FileNotFoundError:  # replaced or removed just now
            return
        except (OSError, ValueError) as error:
            log.warning("report %s cannot be read: %s", path, error)
            self._seen[path] = version
            return
        self._seen[path] = version
        for listener in self._listeners:
            try:
                listener(report)
            except JobTooLargeError as error:
                log.warning("%s: %s", path, error)
            except (KeyError, TypeError) as error:
                log.warning("%s is no report: %r", path, error)
