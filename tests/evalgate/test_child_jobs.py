"""An EvalGate controller can run a Job with the modules in children/, which build, watch and retry the Job
and classify its failure."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from support.builders import make_gate
from support.clock import FakeClock
from support.fake_cluster import FakeCluster
from support.waiting import eventually
from support.world import failed
from tunegate_api.contract.process import ExitCode, Role
from tunegate_api.contract.report import Report, report_audience, report_path
from tunegate_api.contract.results import Evaluation, Results, Subject
from tunegate_api.meta import StatusModel, Time
from tunegate_api.v1alpha2 import EvalGate
from tunegate_api.v1alpha2.finetunejob_status import MAX_EVICTIONS, Attempt, Eviction, Failure
from tunegate_api.v1alpha2.reasons import Reason
from tunegate_client.laptop.cluster import LocalCluster
from tunegate_operator.children import pod_status
from tunegate_operator.children.attempts import (
    Completed,
    Running,
    StepState,
    Waiting,
    advance,
    count_ended_pods,
    record_finished,
    stop_all,
)
from tunegate_operator.children.child_jobs import SUSPENDED, ChildJobs, Ledger
from tunegate_operator.children.job import BACKOFF_LIMIT, JobOwner, PodNeeds, PodSettings, ReportTo, build_job
from tunegate_operator.children.observed import observe_children
from tunegate_operator.children.volumes import ROOT, WHOLE, PodVolumes
from tunegate_operator.engine.cache import Cache
from tunegate_operator.engine.clock import Clock, SystemClock
from tunegate_operator.engine.cluster import Cluster, Key, Object
from tunegate_operator.engine.controller import Agenda, Decision, View, parse_status
from tunegate_operator.engine.objects import uid_of
from tunegate_operator.engine.queue import WorkQueue
from tunegate_operator.engine.reconcile import Reconciler
from tunegate_operator.names import GATE_LABEL, Step

JUDGE = Step(Role.GATE)
SETTINGS = PodSettings("trainer:test", ReportTo("https://tunegate.default:443", "PEM"))
SUSPEND = "test/suspend"
BROKEN = (1, "Traceback\nValueError: odd")
Gate = dict[str, Any]


class GateStatus(StatusModel):
    """The status that JudgingController writes."""

    state: str = ""
    reason: str | None = None
    message: str = ""
    attempts: list[Attempt] = []
    evictions: list[Eviction] = []
    running_seconds: int = 0
    counted_until: Time | None = None


class JudgingController:
    """A controller that runs one Job for each EvalGate until the Job completes or fails permanently."""

    kind = "EvalGate"

    def __init__(self, settings: PodSettings = SETTINGS, environment: tuple[Object, ...] = ()) -> None:
        self._settings = settings
        self._environment = environment

    def decide(self, obj: Object, view: View, now: datetime) -> Decision | None:
        status, agenda = parse_status(obj, GateStatus), Agenda(now)
        if status.state == "Failed":
            return None
        reports = [Report.model_validate(report) for report in view.reports(uid_of(obj))]
        judged = sum(len(report.results.evaluations) for report in reports)
        children, _ = observe_children(obj, view, {JUDGE: 1})
        jobs = ChildJobs(
            children=children,
            refusal=view.refusal(uid_of(obj)),
            ledger=Ledger(
                tuple(status.attempts),
                tuple(status.evictions),
                running_seconds=status.running_seconds,
                counted_until=status.counted_until,
            ),
            agenda=agenda,
            gpus=lambda _: 0,
            last_checkpoint=lambda _: judged,
            resumable=frozenset({Role.GATE}),
        )
        count_ended_pods(jobs)
        record_finished(jobs)
        if obj["spec"].get("suspend"):
            stop_all(jobs, SUSPENDED)
            shown = GateStatus(state="Suspended")
        else:
            shown = shown_as(advance(jobs, JUDGE, lambda number: [self._job(obj, number)]))
        if shown.state == "Failed":
            stop_all(jobs, str(shown.reason))
        ledger = jobs.ledger
        remembered = {
            "attempts": list(ledger.attempts),
            "evictions": list(ledger.evictions),
            "running_seconds": ledger.running_seconds,
            "counted_until": ledger.counted_until,
        }
        new = shown.model_copy(update=remembered)
        return Decision(new.to_wire(), tuple(agenda.actions), requeue_after=agenda.requeue_after)

    def references(self, _obj: Object) -> Iterable[Key]:
        return []

    def index(self, _obj: Object) -> Iterable[tuple[Key, str]]:
        return []

    def concerns(self, _changed: Object, _view: View) -> Iterable[Key]:
        return []

    def _job(self, obj: Object, number: int) -> Object:
        meta = EvalGate.model_validate(obj | {"spec": make_gate().spec, "status": {}}).metadata
        owner = JobOwner(self.kind, meta.name, meta.namespace, meta.uid, {GATE_LABEL: meta.name})
        volumes = PodVolumes()
        volumes.add_config_map("golden", "cases", ROOT / "inputs" / "cases")
        if self._settings.report_to:
            volumes.add_report_token(meta.uid)
        volumes.add_workspace("runs", {WHOLE: True})
        needs = PodNeeds(
            image=self._settings.image,
            volumes=volumes,
            args=("--golden", "cases"),
            environment=self._environment,
            resources={"limits": {"memory": "1Gi"}},
            report_key=meta.uid,
        )
        return build_job(owner, JUDGE, number, needs, self._settings)


def shown_as(state: StepState) -> GateStatus:
    match state:
        case Failure(reason=reason, message=message):
            return GateStatus(state="Failed", reason=reason, message=message)
        case Waiting(reason, message):
            return GateStatus(state="Waiting", reason=reason, message=message)
        case _:
            return GateStatus(state=type(state).__name__)


class GateWorld:
    """A cluster with one EvalGate, and an operator with only JudgingController."""

    def __init__(self, cluster: Cluster, clock: Clock, controller: JudgingController | None = None) -> None:
        self.cluster, self.clock = cluster, clock
        self._controller = controller or JudgingController()
        self.boot()
        cluster.create(make_gate().obj())

    def boot(self) -> None:
        """Start a new operator process, which knows only the state of the cluster."""
        self._reconciler = Reconciler(
            self.cluster, Cache(self.cluster.get), WorkQueue(self.clock), [self._controller], self.clock
        )
        self.cluster.watch(self._reconciler.handle)
        self._reconciler.resync()

    @property
    def gate(self) -> Gate:
        found = self.cluster.get(Key("EvalGate", "default", "golden"))
        assert found is not None
        return found

    @property
    def status(self) -> GateStatus:
        return GateStatus.model_validate(self.gate.get("status", {}))

    def jobs(self) -> list[Object]:
        found = list(self.cluster.list_objects("Job"))
        return sorted(found, key=lambda job: job["metadata"]["name"])

    def settle(self) -> GateStatus:
        assert self._reconciler.run_ready(60) < 60, "decisions never settle"
        return self.status

    def report(self, judged: int) -> None:
        """As the running pod, report ``judged`` evaluations."""
        measured = [
            Evaluation(subject=Subject.FINAL, stage="sft", step=step, outcomes={}) for step in range(judged)
        ]
        report = Report(
            job_uid=uid_of(self.gate),
            role=Role.GATE,
            attempt=len(self.jobs()),
            sequence=judged,
            time=self.clock.now(),
            results=Results(evaluations=measured),
        )
        self._reconciler.handle_report(report.model_dump(mode="json", by_alias=True, exclude_none=True))


class FakeWorld(GateWorld):
    """A GateWorld on the fake cluster, in which the test simulates the pods."""

    fake: FakeCluster

    def __init__(self) -> None:
        self.fake_clock = FakeClock()
        self.fake = FakeCluster(self.fake_clock)
        super().__init__(self.fake, self.fake_clock)
        self.settle()

    @property
    def job_name(self) -> str:
        name: str = self.jobs()[-1]["metadata"]["name"]
        return name

    def start(self) -> GateStatus:
        self.fake.start_pod(self.job_name)
        return self.settle()

    def end(self, code: int = 0, message: str = "", **how: Any) -> GateStatus:
        """End the running pod."""
        self.fake.finish_pod(self.job_name, code, message, **how)
        return self.settle()

    def end_attempt(self) -> GateStatus:
        """Fail the pod and each pod that replaces it, until the Job fails."""
        for _ in range(1 + BACKOFF_LIMIT):
            self.end(*BROKEN)
        return self.settle()


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


def test_gate_owns_its_child_job_with_reports_by_uid(world: FakeWorld) -> None:
    (job,) = world.jobs()
    uid = uid_of(world.gate)
    assert job["metadata"]["name"] == f"golden-gate-{uid[:5]}-1"
    (owner,) = job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("EvalGate", "golden", uid)
    assert owner["controller"] is owner["blockOwnerDeletion"] is True
    template = job["spec"]["template"]
    assert template["metadata"]["labels"][GATE_LABEL] == "golden"
    container = template["spec"]["containers"][0]
    assert container["args"] == ["gate", "--attempt", "1", "--golden", "cases"]
    environment = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert environment["TUNEGATE_REPORT_URL"].endswith(report_path(uid))
    (token,) = (v["projected"] for v in template["spec"]["volumes"] if v["name"] == "report")
    assert token["sources"][0]["serviceAccountToken"]["audience"] == report_audience(uid)


def test_gate_status_follows_its_child_job_until_completion(world: FakeWorld) -> None:
    assert world.status.state == "Starting"
    pod = world.fake.pending_pod(world.job_name)
    waiting = pod_status.waiting(pod, "ErrImagePull", "no such image", world.clock.now())
    world.fake.set_pod_status(world.job_name, waiting)
    status = world.settle()
    assert (status.state, status.reason) == ("Waiting", Reason.IMAGE_PULL)
    assert world.start().state == Running.__name__
    world.fake_clock.advance(7)
    status = world.end()
    assert status.state == Completed.__name__
    assert [(a.role, a.number, a.result) for a in status.attempts] == [("gate", 1, "Succeeded")]
    assert status.running_seconds == 7


def test_failed_attempt_is_retried_only_after_progress(world: FakeWorld) -> None:
    world.start()
    world.report(judged=3)
    assert world.end_attempt().state == "Starting"
    assert [job["metadata"]["name"][-2:] for job in world.jobs()] == ["-1", "-2"]
    status = world.end_attempt()
    assert (status.state, status.reason) == ("Failed", Reason.INTERNAL_ERROR)
    assert status.message.endswith("ValueError: odd (restarts made no progress)")
    assert [(a.number, a.last_step) for a in status.attempts] == [(1, 3), (2, 3)]
    assert len(world.jobs()) == 2


def test_permanent_failure_is_recorded_with_its_reason_and_not_retried(world: FakeWorld) -> None:
    world.start()
    world.report(judged=3)
    status = world.end(*failed(ExitCode.BAD_DATA, Reason.BAD_DATA, "row 4 has no answer"))
    assert (status.state, status.reason, status.message) == ("Failed", Reason.BAD_DATA, "row 4 has no answer")
    assert len(world.jobs()) == 1


def test_oom_killed_pod_fails_gate_while_child_job_is_active(world: FakeWorld) -> None:
    world.start()
    status = world.end(137, reason="OOMKilled")
    assert (status.state, status.reason) == ("Failed", Reason.OUT_OF_MEMORY)


def test_gate_survives_evictions_below_the_limit_and_fails_at_it(world: FakeWorld) -> None:
    def evict() -> GateStatus:
        world.start()
        pod = world.fake.pods_of(world.job_name)[-1]
        ended = pod_status.terminated(pod, 143, "", world.clock.now(), disruption="preempted")
        condition = ended["conditions"][-1]
        condition["reason"] = "PreemptionByScheduler"
        running = next(p for p in world.fake.pods_of(world.job_name) if pod_status.phase(p) == "Running")
        world.fake.as_user.patch_status(Key.of(running), ended, running["metadata"]["resourceVersion"])
        return world.settle()

    for _ in range(MAX_EVICTIONS - 1):
        assert evict().state != "Failed"
    assert len(world.jobs()) == 1
    status = evict()
    assert (status.state, status.reason) == ("Failed", Reason.EVICTED)
    assert len(status.evictions) == MAX_EVICTIONS


def test_suspended_gate_ends_child_job_and_resumes_as_next_attempt(world: FakeWorld) -> None:
    world.start()
    world.fake.as_user.replace(world.gate | {"spec": world.gate["spec"] | {"suspend": True}})
    status = world.settle()
    assert [(a.number, a.result) for a in status.attempts] == [(1, SUSPENDED)]
    assert world.jobs() == []
    world.fake.as_user.replace(world.gate | {"spec": {**world.gate["spec"], "suspend": False}})
    assert world.settle().state == "Starting"
    assert [job["metadata"]["name"][-2:] for job in world.jobs()] == ["-2"]


def test_gate_waits_with_quota_exceeded_if_job_is_forbidden() -> None:
    world = FakeWorld()
    for job in world.jobs():
        world.fake.as_user.delete(Key.of(job), uid_of(job))
    world.fake.forbid("Job", "exceeded quota: gpu")
    world.settle()
    world.fake_clock.advance(10)
    status = world.settle()
    assert (status.state, status.reason) == ("Waiting", Reason.QUOTA_EXCEEDED)


def test_restarted_operator_continues_the_attempt_numbers_in_status(world: FakeWorld) -> None:
    world.start()
    world.report(judged=3)
    world.end_attempt()
    world.boot()
    status = world.settle()
    assert [(a.number, a.last_step) for a in status.attempts] == [(1, 3)]
    assert [job["metadata"]["name"][-2:] for job in world.jobs()] == ["-1", "-2"]


TRAINER = """
import json, os, pathlib, sys
root = pathlib.Path(os.environ["TUNEGATE_ROOT"])
first = root / "workspace" / "first"
code = 0 if first.exists() else 1
first.touch()
outcome = "Failed" if code else "Completed"
(root / "termination.json").write_text(json.dumps({"exitCode": code, "outcome": outcome}))
sys.exit(code)
"""


def test_gate_job_completes_on_a_laptop_after_one_pod_restart(tmp_path: Path) -> None:
    package = tmp_path / "code" / "tunegate_trainer"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(TRAINER)
    cluster = LocalCluster(tmp_path / "state", lambda claim: tmp_path / claim, retry_seconds=0.01)
    (tmp_path / "runs").mkdir()
    path = ({"name": "PYTHONPATH", "value": str(package.parent)},)
    with cluster:
        cluster.create(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "cases", "namespace": "default"},
                "data": {"golden.jsonl": ""},
            }
        )
        settings = replace(SETTINGS, report_to=None, on_one_machine=True)
        world = GateWorld(cluster, SystemClock(), JudgingController(settings, path))

        def is_over() -> bool:
            world.settle()
            cluster.step()
            return world.status.state in ("Completed", "Failed")

        eventually(is_over, seconds=120, what="the Job ends")
        (job,) = world.jobs()
        assert world.status.state == "Completed", world.status.message
        assert (job["status"]["failed"], job["status"]["succeeded"]) == (1, 1), "its pod was restarted once"
        assert [attempt.result for attempt in world.status.attempts] == ["Succeeded"]
