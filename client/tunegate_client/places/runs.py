"""Read the jobs and gates of a runs folder on this machine. Another process may be running them."""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path

from tunegate_api.contract.request import Request
from tunegate_api.contract.workspace import Workspace
from tunegate_api.judging.review import MAX_SCORE_MAPS
from tunegate_client.laptop.cluster import is_in_use, objects_folder
from tunegate_client.laptop.jobs import OWNER_ANNOTATION
from tunegate_client.laptop.kubelet import log_file
from tunegate_client.laptop.manifests import NAMESPACE
from tunegate_client.laptop.object_folder import ObjectFolder
from tunegate_client.laptop.status import (
    cluster_folder,
    interrupted_jobs,
    read_job,
    report_file,
    status_file,
    status_files,
    volumes_folder,
)
from tunegate_client.places.client import (
    ClientError,
    Kind,
    UnknownNameError,
    age_key,
    has_ended,
    parse_request,
    sorted_events,
    unknown_name,
)
from tunegate_operator.engine.cluster import ClusterError, Key, Object
from tunegate_operator.engine.objects import uid_of
from tunegate_operator.names import REVIEW_LABEL, request_name

POLL_SECONDS = 0.25
"""Seconds between two looks at a file that may have changed."""

_Version = tuple[int, int]


class RunsClient:
    """Implements :class:`tunegate_client.places.client.Client` with a runs folder. Changes no file."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self._cluster = cluster_folder(runs)
        self._folder = ObjectFolder(objects_folder(self._cluster))
        self._parsed: dict[str, dict[Path, tuple[_Version, Object]]] = {}

    @property
    def place(self) -> str:
        return f"the folder {self.runs}"

    def list_objects(self, kind: Kind) -> list[Object]:
        if kind == "FineTuneJob":
            return self._jobs()
        return sorted(self._stored(kind), key=Key.of)

    def get(self, kind: Kind, name: str) -> Object:
        if kind == "FineTuneJob" and (file := status_file(self.runs, name)) in status_files(self.runs):
            with suppress(FileNotFoundError):  # deleted meanwhile
                return self._read(file)
        found = {obj["metadata"]["name"]: obj for obj in self.list_objects(kind)}
        if name not in found:
            raise unknown_name(kind, name, self.place, list(found))
        return found[name]

    def watch(self, kind: Kind, name: str) -> Iterator[Object]:
        obj, seen = self.get(kind, name), None
        is_run = is_in_use(self._cluster)
        yield obj
        while True:
            versions = self._versions(kind)
            if versions != seen:
                seen = versions
                try:
                    current = self.get(kind, name)
                except UnknownNameError:
                    return
                if uid_of(current) != uid_of(obj):
                    return
                if current != obj:
                    obj = current
                    yield obj
            if is_run != is_in_use(self._cluster):  # so the job is interrupted, or no longer interrupted
                is_run = not is_run
                yield obj
            time.sleep(POLL_SECONDS)

    def interrupted(self, jobs: Collection[Object]) -> set[str]:
        names = interrupted_jobs(self.runs, jobs)
        if not names:
            return names
        # The process may have ended a job after it was read, and then ended itself.
        return interrupted_jobs(self.runs, [job for job in self._jobs() if job["metadata"]["name"] in names])

    def list_events(self, obj: Object) -> list[Object]:
        events = self._stored("Event")
        return sorted_events(event for event in events if event["involvedObject"].get("uid") == uid_of(obj))

    def list_pods(self, job: Object) -> list[Object]:
        pods = [
            pod
            for pod in self._stored("Pod")
            if pod["metadata"].get("annotations", {}).get(OWNER_ANNOTATION) == uid_of(job)
        ]
        return sorted(pods, key=age_key)

    def read_log(self, pod: Object, *, follow: bool = False) -> Iterator[str]:
        name = pod["metadata"]["name"]
        path, line = log_file(self._cluster, name), ""
        try:
            file = path.open(encoding="utf-8", errors="replace", newline="\n")
        except FileNotFoundError:
            raise ClientError(f"there is no log of pod {name}: {path} does not exist") from None
        with file:
            while True:
                is_last = not follow or self._has_ended(pod)  # decided first: what follows reads to the end
                for part in file:
                    line += part
                    if line.endswith("\n"):
                        yield line[:-1]
                        line = ""
                if is_last:
                    break
                time.sleep(POLL_SECONDS)
        if line:
            yield line

    def read_request(self, job: Object) -> Request | None:
        return parse_request(job, self.read_config_map(request_name(job["metadata"]["name"], uid_of(job))))

    def read_config_map(self, name: str) -> Object | None:
        return self.find("ConfigMap", name)

    def volume(self, claim: str) -> Path:
        """Return the folder of a PersistentVolumeClaim."""
        return volumes_folder(self.runs) / claim

    def find(self, kind: str, name: str) -> Object | None:
        """Return a ConfigMap or a Secret; None if it does not exist."""
        try:
            return self._folder.load_file(self._folder.file(Key(kind, NAMESPACE, name)))
        except FileNotFoundError:
            return None
        except ClusterError as error:
            raise ClientError(str(error)) from error

    def read_score_maps(self, job: str) -> list[Object]:
        found = [
            config_map
            for config_map in self._stored("ConfigMap")
            if config_map["metadata"].get("labels", {}).get(REVIEW_LABEL) == job
        ]
        return sorted(found, key=lambda config_map: str(config_map["metadata"]["name"]))[:MAX_SCORE_MAPS]

    def read_review_sample(self, job: Object) -> str:
        claim = str(job["spec"]["storage"]["persistentVolumeClaim"])
        path = self.volume(claim) / Workspace(uid_of(job)).review_sample
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ClientError(
                f"the review sample of FineTuneJob {job['metadata']['name']} cannot be read: {error}"
            ) from error

    def read_report(self, job: Object) -> bytes:
        path = report_file(self.runs, job["metadata"]["name"])
        try:
            return path.read_bytes()
        except FileNotFoundError:
            name = job["metadata"]["name"]
            raise ClientError(
                f"FineTuneJob {name} has no report yet: {path} is created after the first evaluation"
            ) from None

    def _jobs(self) -> list[Object]:
        return self._load("FineTuneJob", read_job)

    def _read(self, file: Path) -> Object:
        """Read one job, so that the files of other jobs need not be readable. Raises FileNotFoundError."""
        try:
            return read_job(file)
        except ClusterError as error:
            raise ClientError(str(error)) from error

    def _stored(self, kind: str) -> list[Object]:
        return self._load(kind, self._folder.load_file)

    def _load(self, kind: str, parse: Callable[[Path], Object]) -> list[Object]:
        """Return the objects of a kind, whose files another process may be changing. A file that has not
        changed since the last call is not parsed again, because that takes milliseconds."""
        known, loaded = self._parsed.get(kind, {}), {}
        for path, version in self._versions(kind).items():
            before = known.get(path)
            if before and before[0] == version:
                loaded[path] = before
            else:
                try:
                    loaded[path] = (version, parse(path))
                except FileNotFoundError:  # deleted meanwhile, by `tunegate run --again`
                    continue
                except ClusterError as error:
                    raise ClientError(str(error)) from error
        self._parsed[kind] = loaded
        return [obj for _, obj in loaded.values()]

    def _versions(self, kind: str) -> dict[Path, _Version]:
        """Return a value for each file of this kind that changes when the file changes. Files are replaced,
        so a changed file is another inode."""
        files = status_files(self.runs) if kind == "FineTuneJob" else self._folder.files(kind)
        versions = {}
        for path in files:
            with suppress(FileNotFoundError):
                found = path.stat()
                versions[path] = (found.st_mtime_ns, found.st_ino)
        return versions

    def _has_ended(self, pod: Object) -> bool:
        """Return whether a pod writes no more to its log, as far as the files show. Without a process that
        runs the folder, they are not updated."""
        current = [one for one in self._stored("Pod") if uid_of(one) == uid_of(pod)]
        return not current or has_ended(current[0]) or not is_in_use(self._cluster)
