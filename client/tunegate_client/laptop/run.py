"""Run the operator's controllers on a cluster in a folder, and write the files that a user reads.

::

    <runs>/<job>/status.yaml     the FineTuneJob with its status, as kubectl would show it
    <runs>/<job>/report.html     the report, if there is one yet
    <runs>/volumes/<claim>/      PersistentVolumeClaims; a link if a folder beside the manifests has that name
    <runs>/.cluster/             every object, pod and log, see :mod:`tunegate_client.laptop.cluster`
"""

import json
import logging
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError

from tunegate_api.contract.process import Role
from tunegate_api.contract.report import Report
from tunegate_api.contract.workspace import Workspace
from tunegate_api.v1alpha2.finetunejob_status import FineTuneJobStatus, TrackingStatus
from tunegate_client.laptop.cluster import LocalCluster
from tunegate_client.laptop.filtered_controller import FilteredController
from tunegate_client.laptop.jobs import OWNER_ANNOTATION, owner_name
from tunegate_client.laptop.manifests import (
    NAMESPACE,
    Project,
    changes_immutable_content,
    content,
    in_laptop_namespace,
    inputs_of,
    job_names,
    refuse_changed_spec,
    refuse_immutable_change,
    refuse_missing_start_job,
    refuse_missing_trainer,
    refuse_reserved,
)
from tunegate_client.laptop.object_folder import to_yaml
from tunegate_client.laptop.report_page import with_status
from tunegate_client.laptop.status import (
    cluster_folder,
    read_status,
    record_running_jobs,
    report_file,
    status_file,
    volumes_folder,
    write_if_changed,
)
from tunegate_client.laptop.store import ObjectStore
from tunegate_client.laptop.volumes import make_links, plan_links
from tunegate_operator.children.child_jobs import SUCCEEDED
from tunegate_operator.children.job import PodSettings
from tunegate_operator.children.pod_status import is_terminal
from tunegate_operator.decisions import is_at_rest
from tunegate_operator.engine.cache import Cache
from tunegate_operator.engine.clock import SystemClock
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.objects import is_being_deleted, is_finished, uid_of
from tunegate_operator.engine.owners import owner_uids
from tunegate_operator.engine.queue import WorkQueue
from tunegate_operator.engine.reconcile import Reconciler
from tunegate_operator.evalgate.controller import EvalGateController
from tunegate_operator.finetunejob.controller import FineTuneJobController
from tunegate_operator.names import ROLE_LABEL, start_from

logger = logging.getLogger(__name__)

PODS = PodSettings(image="laptop", secrets_needed=False, on_one_machine=True)
"""Settings for pods on a laptop. Pods are processes of the installed trainer, so the image is not used.
Secrets may be missing, because credentials may come from the user's environment."""
REFRESH_SECONDS = 0.25
"""Seconds between two steps of :meth:`Laptop.run_until_rest` if nothing changes."""
PROGRESS_SECONDS = 1.0
"""Seconds between status writes that only update progress. They may be frequent, because the status is a
local file."""
INPUTS_ANNOTATION = "local.tunegate.dev/inputs"
"""Annotation of a FineTuneJob with the digests of the EvalGates and ConfigMaps with which it started."""


@dataclass(frozen=True)
class EarlierRun:
    """What an earlier command did with a job, as found when the manifests of this job are applied again."""

    has_ended: bool
    ended_at: datetime | None
    changed_inputs: tuple[str, ...]
    """The EvalGates and ConfigMaps that changed after the job started, as ``KIND NAME``."""


class Laptop:
    """A ``runs`` folder that this process has locked. Runs the jobs ``names``, and leaves other jobs
    unchanged.

    Raises RootInUseError if another process has locked the folder, and ClusterError if the folder cannot be
    read.
    """

    def __init__(self, runs: Path, names: Collection[str]) -> None:
        self.runs = runs.absolute()
        self._names = names
        self._written: dict[str, str] = {}
        """The resource version of each job in its status file."""
        clock = SystemClock()
        self._cluster = LocalCluster(
            cluster_folder(self.runs),
            self._volume,
            clock,
            works_on=lambda obj: self._is_ours(obj, owner_name(obj)),
        )
        record_running_jobs(self.runs, names)
        self._reconciler = Reconciler(
            self._cluster,
            Cache(self._cluster.get),
            WorkQueue(clock),
            [FilteredController(FineTuneJobController(PODS), self._is_ours), EvalGateController()],
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
        """Stop all pods and unlock the folder. Pods get their grace period, except after Ctrl-C."""
        try:
            self._cluster.interrupt(limit=0 if isinstance(error, KeyboardInterrupt) else None)
        finally:
            self._cluster.close()

    # What kubectl does

    def apply(self, projects: Sequence[Project], *, again: bool = False) -> dict[str, EarlierRun]:
        """Create or update the objects of manifests. With ``again``, first delete earlier runs of their jobs.

        Returns the state of each job, by name, that an earlier run left; with ``again``, it is empty. If a
        cluster would refuse an object, raises RefusedError or InvalidError before anything is changed. With
        ``again``, changes of immutable objects that no other job uses are not refused.
        """
        objects = in_laptop_namespace(obj for project in projects for obj in project.objects)
        self._refuse(objects, again=again)
        links = plan_links(self._volumes, projects)
        self._delete(job_names(objects), again=again)
        for obj in objects:
            self._apply_one(obj)
        make_links(links)
        return {name: self._record_start(name, objects) for name in job_names(objects)}

    def annotate(self, name: str, annotation: str, value: Any) -> None:
        """Set an annotation of a FineTuneJob to ``value`` as JSON. Raises KeyError if the job does not
        exist."""
        self.annotate_text(name, annotation, json.dumps(value))

    def annotate_text(self, name: str, annotation: str, text: str) -> None:
        """Set an annotation of a FineTuneJob. Raises KeyError if the job does not exist."""
        obj = self.job(name)
        annotations = obj["metadata"].get("annotations") or {}
        obj["metadata"]["annotations"] = {**annotations, annotation: text}
        self._cluster.replace(obj)

    def put_config_map(self, config_map: Object) -> None:
        """Create a ConfigMap of a user, or replace its content."""
        self._apply_one(config_map | {"metadata": config_map["metadata"] | {"namespace": NAMESPACE}})

    def job(self, name: str) -> Object:
        """Return the current object of a FineTuneJob. Raises KeyError if the job does not exist."""
        obj = self._cluster.get(Key("FineTuneJob", NAMESPACE, name))
        if obj is None:
            raise KeyError(name)
        return obj

    # What the machine does

    def step(self, seconds: float) -> None:
        """Update pods, reconcile objects and write files once. Then wait for a change, for at most
        ``seconds``."""
        self._cluster.step()
        self._reconciler.run_ready()
        for job in self._list("FineTuneJob"):
            if job["metadata"]["name"] in self._names:
                self._write_files(job)
        self._cluster.wait(seconds)

    def run_until_rest(self, show: Callable[[dict[str, FineTuneJobStatus]], None]) -> None:
        """Run this process's jobs until each has ended or waits for a person. After each step, pass their
        statuses to ``show``."""
        while True:
            self.step(REFRESH_SECONDS)
            show({name: read_status(self.job(name)) for name in self._names})
            if all(self.is_at_rest(name) for name in self._names):
                return

    def is_at_rest(self, name: str) -> bool:
        """Return whether a job has ended or waits for a person, and its Jobs, pods and tracking have
        ended."""
        job = self.job(name)
        uid, status = job["metadata"]["uid"], read_status(job)
        return (
            is_at_rest(job)
            and (status.tracking is None or status.tracking.result is not None)
            and all(is_finished(child) for child in self._children(uid))
            and all(is_terminal(pod) for pod in self._pods(uid))
        )

    def interrupt(self) -> None:
        """Let every pod save a checkpoint and stop. The next run resumes from these checkpoints."""
        self._cluster.interrupt()

    def log_file(self, name: str) -> Path | None:
        """Return the path of the log of a job's newest pod, or None. Pods with roles such as cleanup and
        tracking are ignored."""
        pods = [
            pod
            for pod in self._pods(self.job(name)["metadata"]["uid"])
            if not Role(pod["metadata"]["labels"][ROLE_LABEL]).is_chore
        ]
        newest = max(pods, key=lambda pod: int(pod["metadata"]["resourceVersion"]), default=None)
        return self._cluster.log_file(newest["metadata"]["name"]) if newest else None

    def report_file(self, name: str) -> Path:
        """Return the path of a job's report."""
        return report_file(self.runs, name)

    def status_file(self, name: str) -> Path:
        """Return the path of a job's status file."""
        return status_file(self.runs, name)

    # Inside

    @property
    def _volumes(self) -> Path:
        return volumes_folder(self.runs)

    def _is_ours(self, obj: Object, name: str | None) -> bool:
        """Return whether this process works on ``obj``. ``name`` is the name of the FineTuneJob to which the
        object belongs, or None."""
        return obj["metadata"]["namespace"] == NAMESPACE and (name is None or name in self._names)

    def _list(self, kind: str) -> list[Object]:
        return [o for o in self._cluster.list_objects(kind) if o["metadata"]["namespace"] == NAMESPACE]

    def _take_report(self, report: Object) -> None:
        """Pass a report to the reconciler. Only log a warning if it is invalid, because retrying does not
        help."""
        try:
            Report.model_validate(report)
        except ValidationError as error:
            logger.warning("a report about the job with uid %s is invalid: %s", report.get("jobUid"), error)
        else:
            self._reconciler.handle_report(report)

    def _refuse(self, objects: list[Object], *, again: bool) -> None:
        """Raise RefusedError or InvalidError for any object that a cluster would refuse."""
        refuse_missing_trainer()
        names = job_names(objects)
        refuse_reserved(names)
        dry_run = ObjectStore(SystemClock())
        for obj in objects:
            dry_run.create(obj)
            existing = self._cluster.get(Key.of(obj))
            source = start_from(obj)
            if source and source not in names and (again or not _has_started(existing)):
                refuse_missing_start_job(obj, self._cluster.get(Key("FineTuneJob", NAMESPACE, source)))
            if existing is None:
                continue
            if obj["kind"] == "FineTuneJob":
                if not again:
                    refuse_changed_spec(existing, obj)
            elif changes_immutable_content(existing, obj):
                refuse_immutable_change(obj, self._users(existing, besides=names), again=again)

    def _users(self, obj: Object, besides: Collection[str]) -> list[str]:
        """Return the names of the jobs that read ``obj``, an EvalGate or a ConfigMap. Jobs named in
        ``besides`` are left out."""
        objects = [*self._list("ConfigMap"), *self._list("EvalGate")]
        jobs = [job for job in self._list("FineTuneJob") if job["metadata"]["name"] not in besides]
        label = f"{obj['kind']} {obj['metadata']['name']}"
        return [job["metadata"]["name"] for job in jobs if label in inputs_of(job, objects)]

    def _delete(self, names: list[str], *, again: bool) -> None:
        """Delete FineTuneJobs with all objects that they own, and their folders in ``runs``. Their files on
        volumes are kept, except with ``storage.onDelete: Delete``. Without ``again``, do this only for jobs
        whose deletion an earlier command began."""
        jobs = [job for job in self._list("FineTuneJob") if job["metadata"]["name"] in names]
        jobs = [job for job in jobs if again or is_being_deleted(job)]
        for job in jobs:
            self._cluster.delete(Key.of(job), job["metadata"]["uid"])
        uids = set(map(uid_of, jobs))  # pods are killed after their grace period
        while uids & set(map(uid_of, self._list("FineTuneJob"))) or any(map(self._pods, uids)):
            self._cluster.step()
            self._reconciler.run_ready()
            self._cluster.wait(0.1)
        for job in jobs:
            shutil.rmtree(self.runs / job["metadata"]["name"], ignore_errors=True)

    def _apply_one(self, obj: Object) -> None:
        key = Key.of(obj)
        existing = self._cluster.get(key)
        if existing and obj["kind"] != "FineTuneJob" and changes_immutable_content(existing, obj):
            self._cluster.delete(key, existing["metadata"]["uid"])  # no other job uses it
            existing = None
        if existing is None:
            self._cluster.create(obj)
            return
        labels = obj["metadata"].get("labels") or {}
        if content(existing) != content(obj) or (existing["metadata"].get("labels") or {}) != labels:
            self._cluster.replace({**content(obj), "metadata": {**existing["metadata"], "labels": labels}})

    def _record_start(self, name: str, objects: list[Object]) -> EarlierRun:
        """Return the state of the earlier run of a job.

        If the job has not started, record its inputs. If the earlier run ended with metrics that a tracker
        did not receive, retry sending them."""
        job = self.job(name)
        status, inputs = read_status(job), inputs_of(job, objects)
        has_ended = status.phase is not None and status.phase.is_final
        if status.tracking and status.tracking.result != SUCCEEDED and status.cleanup is None:
            self._retry_tracking(job, status.tracking)
        if status.request is None and not has_ended:
            self.annotate(name, INPUTS_ANNOTATION, inputs)
            return EarlierRun(has_ended=False, ended_at=None, changed_inputs=())
        annotations = job["metadata"].get("annotations", {})
        recorded = json.loads(annotations.get(INPUTS_ANNOTATION, "null")) or inputs
        changed = sorted(key for key in {*recorded, *inputs} if recorded.get(key) != inputs.get(key))
        return EarlierRun(has_ended, status.completion_time, tuple(changed))

    def _retry_tracking(self, job: Object, tracking: TrackingStatus) -> None:
        """Retry sending the remaining metrics of an ended job to trackers that were unreachable.

        Does nothing while a pod of the job is running, or if the job has a cleanup Job.
        """
        roles = {
            child["metadata"]["labels"][ROLE_LABEL]: child for child in self._children(job["metadata"]["uid"])
        }
        if Role.CLEANUP in roles or not all(is_terminal(pod) for pod in self._pods(job["metadata"]["uid"])):
            return
        if Role.TRACK in roles:
            self._cluster.delete(Key.of(roles[Role.TRACK]), roles[Role.TRACK]["metadata"]["uid"])
        status = job["status"] | {"tracking": TrackingStatus(behind=tracking.behind).to_wire()}
        self._cluster.patch_status(Key.of(job), status, job["metadata"]["resourceVersion"])

    def _children(self, uid: str) -> list[Object]:
        return [child for child in self._list("Job") if uid in owner_uids(child)]

    def _pods(self, uid: str) -> list[Object]:
        """Return the pods of the FineTuneJob with this uid, including pods whose Job was deleted."""
        return [
            pod
            for pod in self._list("Pod")
            if pod["metadata"].get("annotations", {}).get(OWNER_ANNOTATION) == uid
        ]

    def _volume(self, claim: str) -> Path:
        folder = self._volumes / claim
        folder.mkdir(parents=True, exist_ok=True)
        return folder.resolve()

    def _write_files(self, job: Object) -> None:
        """Update the status file and the report of a job."""
        metadata = job["metadata"]
        name = metadata["name"]
        if self._written.get(name) != metadata["resourceVersion"]:
            write_if_changed(self.status_file(name), to_yaml(job))
            self._written[name] = metadata["resourceVersion"]
        claim = job["spec"].get("storage", {}).get("persistentVolumeClaim")
        report = self._volumes / str(claim) / Workspace(metadata["uid"]).report
        if report.exists():
            page = report.read_text(encoding="utf-8")
            write_if_changed(self.report_file(name), with_status(page, name, read_status(job)))


def _has_started(job: Object | None) -> bool:
    """Return whether a FineTuneJob has started. If so, all its inputs existed at that time."""
    return job is not None and read_status(job).request is not None
