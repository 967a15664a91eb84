"""The cluster on a laptop: the same controllers over a folder, and what a user sees of it there.

::

    <runs>/<job>/status.yaml     the FineTuneJob with its status, as kubectl would show it
    <runs>/<job>/report.html     the report, once there is one
    <runs>/volumes/<claim>/      PersistentVolumeClaims; a link where the manifests have a folder of that name
    <runs>/.cluster/             every object, pod and log, see :mod:`tunegate_operator.engine.local`
"""

import json
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from pydantic import ValidationError

from tunegate_api.contract import Report
from tunegate_api.crd import MUTABLE
from tunegate_api.v1alpha1 import FineTuneJobStatus
from tunegate_api.v1alpha1.finetunejob_status import Phase
from tunegate_operator.engine.cache import Cache
from tunegate_operator.engine.clock import SystemClock
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.local import LocalCluster
from tunegate_operator.engine.object_folder import to_yaml
from tunegate_operator.engine.queue import WorkQueue
from tunegate_operator.engine.reconcile import Reconciler
from tunegate_operator.evalgate.controller import EvalGateController
from tunegate_operator.finetunejob.controller import FineTuneJobController

log = logging.getLogger(__name__)

NAMESPACE = "default"
IMAGE = "laptop"
"""Stands for the trainer image: pods are processes of the installed trainer."""
PROGRESS_SECONDS = 1.0
"""Status is a local file here, so progress may be written often."""
AT_REST = (Phase.SUCCEEDED, Phase.FAILED, Phase.STOPPED, Phase.SUSPENDED)


class ImmutableError(Exception):
    """A change that the API would refuse."""


class Laptop:
    """One ``runs`` folder, held by this process. Raises RootInUseError if another one holds it."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs.absolute()
        clock = SystemClock()
        self._cluster = LocalCluster(self.runs / ".cluster", self._volume, clock)
        self._reconciler = Reconciler(
            self._cluster,
            Cache(),
            WorkQueue(clock),
            [FineTuneJobController(IMAGE), EvalGateController()],
            clock,
            progress_interval=PROGRESS_SECONDS,
        )
        self._cluster.watch(self._reconciler.handle)
        self._cluster.watch_reports(self._take_report)
        self._reconciler.resync()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cluster.close()

    # What kubectl does

    def apply(self, objects: Iterable[Object], folder: Path) -> None:
        """Create or update objects, in an order in which nothing waits. ``folder`` is where they were read.

        Raises ImmutableError for a change that a cluster would refuse.
        """
        order = {"ConfigMap": 0, "EvalGate": 1, "FineTuneJob": 2}
        for obj in sorted((o for o in objects if o["kind"] in order), key=lambda o: order[o["kind"]]):
            self._apply_one(_located(obj, folder))
        self._link_volumes(folder)

    def annotate(self, name: str, annotation: str, value: Any) -> None:
        """Set an annotation of a FineTuneJob to ``value`` as JSON. Raises KeyError if there is none."""
        obj = self.job(name)
        obj["metadata"].setdefault("annotations", {})[annotation] = json.dumps(value)
        self._cluster.replace(obj)

    def delete(self, name: str) -> None:
        """Delete a FineTuneJob with all that it owns, if it is there. Its folder on the volume stays."""
        key = Key("FineTuneJob", NAMESPACE, name)
        obj = self._cluster.get(key)
        if obj is None:
            return
        owners = {child["metadata"]["uid"] for child in self._children(obj["metadata"]["uid"])}
        self._cluster.delete(key, obj["metadata"]["uid"])
        while self._pods(owners):  # each is killed when its grace period is over
            self._cluster.step()
            self._cluster.wait(0.1)
        shutil.rmtree(self.runs / name, ignore_errors=True)

    def job(self, name: str) -> Object:
        """A FineTuneJob as it is now. Raises KeyError."""
        obj = self._cluster.get(Key("FineTuneJob", NAMESPACE, name))
        if obj is None:
            raise KeyError(name)
        return obj

    # What the machine does

    def step(self, seconds: float) -> None:
        """Let pods and operator do what is due, then wait for more, at most ``seconds``."""
        self._cluster.step()
        self._reconciler.run_ready()
        for job in self._cluster.list_objects("FineTuneJob"):
            self._show(job)
        self._cluster.wait(seconds)

    def is_at_rest(self, name: str) -> bool:
        """Whether nothing will happen to a job without a person."""
        status = read_status(self.job(name))
        if status.phase not in AT_REST:
            return False
        uid = self.job(name)["metadata"]["uid"]
        return not any(not _is_finished(job) for job in self._children(uid))

    def interrupt(self) -> None:
        """Let every pod save and stop. The next run goes on from there."""
        self._cluster.interrupt()

    def log_file(self, name: str) -> Path | None:
        """The log of a job's newest pod."""
        uid = self.job(name)["metadata"]["uid"]
        owners = {job["metadata"]["uid"] for job in self._children(uid)}
        newest = max(
            self._pods(owners), key=lambda pod: int(pod["metadata"]["resourceVersion"]), default=None
        )
        return self._cluster.log_file(newest["metadata"]["name"]) if newest else None

    def report_file(self, name: str) -> Path:
        return self.runs / name / "report.html"

    def _take_report(self, report: Object) -> None:
        """Hand on a report; one that can't be read would only be read in vain again and again."""
        try:
            Report.model_validate(report)
        except ValidationError as error:
            log.warning("a report of job %s cannot be read: %s", report.get("jobUid"), error)
        else:
            self._reconciler.handle_report(report)

    def _apply_one(self, obj: Object) -> None:
        obj["metadata"].setdefault("namespace", NAMESPACE)
        existing = self._cluster.get(Key.of(obj))
        if existing is None:
            self._cluster.create(obj)
            return
        content = {k: v for k, v in obj.items() if k not in ("metadata", "status")}
        if all(existing.get(field) == value for field, value in content.items()):
            return
        _refuse_immutable(existing, obj)
        self._cluster.replace({**existing, **content})

    def _children(self, uid: str) -> list[Object]:
        return [
            job
            for job in self._cluster.list_objects("Job")
            if any(owner["uid"] == uid for owner in job["metadata"].get("ownerReferences", []))
        ]

    def _pods(self, owners: set[str]) -> list[Object]:
        return [
            pod
            for pod in self._cluster.list_objects("Pod")
            if any(owner["uid"] in owners for owner in pod["metadata"].get("ownerReferences", []))
        ]

    def _volume(self, claim: str) -> Path:
        folder = self.runs / "volumes" / claim
        folder.mkdir(parents=True, exist_ok=True)
        return folder.resolve()

    def _link_volumes(self, folder: Path) -> None:
        """Let each folder beside the manifests be the claim of that name, as long as there is none yet."""
        volumes = self.runs / "volumes"
        volumes.mkdir(parents=True, exist_ok=True)
        for beside in folder.iterdir():
            link = volumes / beside.name
            if beside.is_dir() and not beside.name.startswith((".", "_")) and not link.exists():
                link.symlink_to(beside.resolve())

    def _show(self, job: Object) -> None:
        """Keep the files that people read up to date."""
        folder = self.runs / job["metadata"]["name"]
        write_if_changed(folder / "status.yaml", to_yaml(job))
        claim = job["spec"].get("storage", {}).get("persistentVolumeClaim")
        if claim is None:
            return
        report = self._volume(claim) / job["metadata"]["uid"] / "report.html"
        if report.exists():
            write_if_changed(folder / "report.html", report.read_text(encoding="utf-8"))


def read_status(job: Object) -> FineTuneJobStatus:
    return FineTuneJobStatus.model_validate(job.get("status", {}))


def read_jobs(runs: Path) -> list[Object]:
    """The FineTuneJobs of a folder as last shown, also while another process runs it."""
    return [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(runs.glob("*/status.yaml"))]


def write_if_changed(path: Path, text: str) -> None:
    """Write a file that people read, leaving it alone when it says this already."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _located(obj: Object, folder: Path) -> Object:
    """The object with file:// URIs that are relative to its manifest made absolute."""

    def absolute(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: absolute(v) for k, v in value.items()}
        if isinstance(value, list):
            return [absolute(v) for v in value]
        if isinstance(value, str) and value.startswith("file://") and not value.startswith("file:///"):
            return f"file://{(folder / value.removeprefix('file://')).resolve()}"
        return value

    return {**obj, "metadata": dict(obj["metadata"])} | (
        {"spec": absolute(obj["spec"])} if obj["kind"] == "FineTuneJob" else {}
    )


def _refuse_immutable(existing: Object, obj: Object) -> None:
    name = obj["metadata"]["name"]
    if obj["kind"] == "FineTuneJob":
        old, new = ({k: v for k, v in o["spec"].items() if k not in MUTABLE} for o in (existing, obj))
        changed = sorted(k for k in {*old, *new} if old.get(k) != new.get(k))
        if changed:
            raise ImmutableError(
                f"FineTuneJob {name} exists and its spec is immutable; changed: {', '.join(changed)}. "
                "Give the new experiment another name, or start over with --again."
            )
    if obj["kind"] == "EvalGate" and existing["spec"].get("golden") != obj["spec"].get("golden"):
        raise ImmutableError(
            f"EvalGate {name} exists and its golden set is immutable, so that pass rates compare. "
            "Give the new set a gate of its own."
        )


def _is_finished(job: Object) -> bool:
    return any(
        c["type"] in ("Complete", "Failed") and c["status"] == "True"
        for c in job.get("status", {}).get("conditions", [])
    )
