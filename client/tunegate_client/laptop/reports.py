"""Read the reports that running pods write as files to their job's outbox on a volume."""

import json
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from tunegate_api.contract.workspace import Workspace
from tunegate_client.laptop.jobs import OWNER_ANNOTATION
from tunegate_client.laptop.pod_folder import FindVolume
from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.reports import JobTooLargeError, StoreFullError

logger = logging.getLogger(__name__)

ReportListener = Callable[[Object], None]


class Outboxes:
    """Passes each new or changed report in the outboxes to listeners. Only one thread may use it."""

    def __init__(self, find_volume: FindVolume) -> None:
        self._find_volume = find_volume
        self._listeners: list[ReportListener] = []
        self._seen: dict[Path, tuple[int, int, int]] = {}
        self._deferred: set[Path] = set()
        """Paths of reports that were refused because the report store was full. They are read again, even
        after their pod has ended."""

    def watch(self, listener: ReportListener) -> None:
        """Call ``listener`` with every report. The next :meth:`poll` also reads unchanged reports again."""
        self._listeners.append(listener)
        self._seen.clear()

    def poll(self, pods: Iterable[Object]) -> None:
        """Call the listeners with each report in the outboxes of ``pods`` that changed since the last
        call."""
        folders = {folder for pod in pods for folder in self._outboxes(pod)}
        found = {path for folder in folders for path in _reports_in(folder)}
        for path in sorted(found | self._deferred):
            self._read(path)

    def _outboxes(self, pod: Object) -> Iterable[Path]:
        owner = pod["metadata"].get("annotations", {}).get(OWNER_ANNOTATION)
        if owner is None:
            return
        for volume in pod["spec"].get("volumes", ()):
            if "persistentVolumeClaim" in volume:
                try:
                    root = self._find_volume(volume["persistentVolumeClaim"]["claimName"])
                except (KeyError, OSError):  # the pod's status reports it
                    continue
                yield root / Workspace(owner).outbox

    def _read(self, path: Path) -> None:
        was_deferred = path in self._deferred
        self._deferred.discard(path)
        try:
            stat = path.stat()
            version = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if self._seen.get(path) == version:
                return
            report = json.loads(path.read_bytes())
        except FileNotFoundError:  # removed in the meantime
            return
        except (OSError, ValueError) as error:
            logger.warning("report %s cannot be read: %s", path, error)
            self._seen[path] = version
            return
        self._seen[path] = version
        for listener in self._listeners:
            try:
                listener(report)
            except JobTooLargeError as error:
                logger.warning("report %s was refused: %s", path, error)
            except StoreFullError as error:
                if not was_deferred:
                    logger.warning("report %s will be read again later: %s", path, error)
                self._deferred.add(path)
                self._seen.pop(path, None)
            except (KeyError, TypeError) as error:
                logger.warning("%s is not a valid report: %r", path, error)


def _reports_in(folder: Path) -> list[Path]:
    """Return the files in an outbox. ``Path.glob`` fails if a cleanup pod removes the folder meanwhile."""
    try:
        return [folder / name for name in os.listdir(folder) if name.endswith(".json")]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
