"""A simulated world on the fake cluster: an operator process, which may crash, and pods that follow a script.

The volume (``outbox``) is kept if the operator crashes. On a laptop, a new operator reads all reports in it
again. On a cluster, pods resend only the reports that were not acknowledged.
"""

import copy
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from support.builders import GOLDEN_CASES, golden_text, make_config_map, make_gate, make_job
from support.clock import FakeClock
from support.fake_cluster import FakeCluster, Write
from tunegate_api.cases.case_lines import parse_cases
from tunegate_api.cases.golden import case_set
from tunegate_api.cases.safety_cases import SafetyCase
from tunegate_api.contract.baselines import MeasuredBaseline
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.plan import (
    DataPlan,
    ModelPlan,
    Plan,
    ProductionPlan,
    SampledRow,
    SamplePlan,
    SplitPlan,
    StagePlan,
    TrainingParameters,
)
from tunegate_api.contract.process import ExitCode, Outcome, Role, Termination
from tunegate_api.contract.published import LastPublished
from tunegate_api.contract.report import PublishedArtifact, Report, Usage
from tunegate_api.contract.request import Request
from tunegate_api.contract.results import (
    ErrorRateOutcomes,
    Evaluation,
    Results,
    Subject,
    golden_set,
    task_set,
)
from tunegate_api.judging.prospects import no_checkpoint_can_pass
from tunegate_api.judging.stages import assess_stage
from tunegate_api.safety_sets import builtin_text
from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_api.v1alpha2.data_status import DataCheckResult
from tunegate_api.v1alpha2.finetunejob_status import Failure, Progress
from tunegate_api.verdict.outcomes import CaseSet
from tunegate_api.verdict.safety import safety_set
from tunegate_api.verdict.stop_rule import StopAction
from tunegate_operator.children.job import PodSettings, ReportTo
from tunegate_operator.engine.cache import Cache
from tunegate_operator.engine.cluster import Key, Object, WatchEvent
from tunegate_operator.engine.queue import WorkQueue
from tunegate_operator.engine.reconcile import CountFailure, Observe, Reconciler
from tunegate_operator.engine.signatures import Signer
from tunegate_operator.evalgate.controller import EvalGateController
from tunegate_operator.finetunejob.controller import FineTuneJobController
from tunegate_operator.names import REQUEST_KEY, ROLE_LABEL, request_name

DIGEST = "d" * 64
MOST_DECISIONS = 60
"""Limit of the decisions that one change may trigger."""
STAGE = "sft"
REGRESSING = {10: 60, 20: 95, 30: 87, 35: 85, 40: 99, 50: 99}
"""How many of the 100 golden cases pass at each checkpoint step. Training stops at step 35."""
SAMPLE = SamplePlan(sha256="5" * 64, rows=[SampledRow(id=f"{n:012x}", row=f"line-{n}") for n in range(10)])
"""The review sample of every job that requires a review."""
DEV = "pf"
"""Case outcomes of the task metric on the dev rows, the same for all models in all scripts."""


def plan_for(
    job_uid: str,
    stages: tuple[str, ...] = (STAGE,),
    total_steps: int = 50,
    *,
    review: SamplePlan | None = None,
    auc: str | None = None,
) -> Plan:
    split = SplitPlan(rows=40, sha256=DIGEST)
    production = ProductionPlan(source_sha256=DIGEST, rows=60, distribution_auc=auc) if auc else None
    parameters = TrainingParameters(
        method="SFT",
        adapter="LoRA",
        lora_r=16,
        lora_alpha=32,
        lora_dropout=0,
        target_modules=["all-linear"],
        epochs=1,
        learning_rate=2e-4,
        scheduler="linear",
        warmup_steps=2,
        weight_decay=0,
        max_grad_norm=1,
        batch_size=8,
        pass_tokens=1536,
        max_length=512,
        seed=42,
        dtype="float32",
        optim="adamw_torch",
    )
    steps = [total_steps * k // 5 for k in range(1, 6)]
    return Plan(
        job_uid=job_uid,
        model=ModelPlan(uri="package://tiny", digest=DIGEST, parameters=1000),
        data=DataPlan(
            source_sha256=DIGEST,
            train=split,
            dev=split,
            test=split,
            dropped=0,
            review=review,
            production=production,
        ),
        stages=[
            StagePlan(
                name=name,
                parameters=parameters,
                starts_from=None if name == stages[0] else "Merged",
                total_steps=total_steps,
                checkpoint_steps=steps,
                tokens=1000,
                gates=["golden"],
            )
            for name in stages
        ],
        versions={"tunegate": "test"},
    )


def letters(passed: int, total: int = GOLDEN_CASES) -> str:
    return "p" * passed + "f" * (total - passed)


@dataclass
class Script:
    """The results that pods report and how the pods end."""

    base: int | str = 10
    """How many of the 100 golden cases the base model passes, or its case outcomes."""
    checkpoints: Mapping[int, int | str] = field(
        default_factory=lambda: {10: 60, 20: 80, 30: 90, 40: 94, 50: 92}
    )
    """How many of the 100 golden cases pass at each checkpoint step of the first stage, or their outcomes."""
    later: dict[str, Mapping[int, int | str]] = field(default_factory=dict)
    """For each later stage, how many of the 100 golden cases pass at each checkpoint step."""
    stops: bool = False
    """Whether a training pod of the fake kubelet stops after the last checkpoint because of a regression."""
    final: int | str = 94
    test: str = "p" * 8 + "f" * 2
    """Case outcomes of the task metric on the test rows."""
    golden_sha256: str = field(default_factory=lambda: sha256_text(golden_text()))
    """The digest of the golden set that the pods report."""
    groups: list[int] = field(default_factory=list)
    """The number of each golden case's group; empty if the cases have no groups."""
    safety: tuple[str, str] | None = None
    """Case outcomes of the base model and the final model on the built-in safety set; None if they are not
    evaluated on it."""
    safety_at_checkpoints: dict[int, str] = field(default_factory=dict)
    """Case outcomes on this set at the steps of the first stage, of which step 0 is the starting model.
    Checkpoints without an entry are like the base model. Empty if they are not evaluated on the set."""
    safety_sha256: str = field(default_factory=lambda: sha256_text(builtin_text("refusals-v1")))
    """The digest of the safety set that the pods report."""
    gate: str = "golden"
    """The gate whose golden set and safety set the pods report."""
    also: tuple[str, ...] = ()
    """Further gates with the same golden set."""
    id_suffix: str = ""
    """A suffix of all case ids, to make them longer."""
    behind: list[str] | None = None
    """The trackers that pods report as behind; None if pods report no list."""
    error_rates: dict[str, ErrorRateOutcomes] | None = None
    """The error rates that the gate pod reports, by gate."""
    gate_reads: LastPublished | None = None
    """The published version that the gate pod finds at the publish targets."""
    publish_reads: LastPublished | None = None
    """A better version that the publish pod finds at the last publish target, so the pod publishes only to
    the other targets."""
    auc: str | None = None
    """The AUC between training and production inputs that the data pod reports."""
    baselines: list[MeasuredBaseline] = field(default_factory=list)
    """The cached baselines that training and gate pods report."""
    data_checks: list[DataCheckResult] = field(default_factory=list)
    """The results of the data checks, which the data pod reports before it ends."""
    sample: SamplePlan | None = SAMPLE
    """The sample that the data pod chooses if the job requires a review."""
    exits: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    """For each role, the exit codes and messages of the pods that fail, in order. Later pods succeed."""

    def sets(self) -> dict[str, CaseSet]:
        ids = [f"case-{i}{self.id_suffix}" for i in range(GOLDEN_CASES)]
        requests = parse_cases(builtin_text("refusals-v1"), SafetyCase) if self.safety else []
        return {
            **({safety_set(self.gate): case_set(requests, self.safety_sha256)} if requests else {}),
            **{
                golden_set(gate): CaseSet(sha256=self.golden_sha256, ids=ids, groups=self.groups)
                for gate in (self.gate, *self.also)
            },
            task_set("dev", "exact_match"): _rows(len(DEV)),
            task_set("test", "exact_match"): _rows(len(self.test)),
        }

    def checkpoints_of(self, stage: str) -> Mapping[int, int | str]:
        """Return how many golden cases pass at each checkpoint step of a stage."""
        return self.checkpoints if stage == STAGE else self.later[stage]

    def evaluation(
        self, subject: Subject, step: int, stage: str = STAGE, time: datetime | None = None
    ) -> Evaluation:
        """Return the evaluation of a starting model, a checkpoint, the base model or the final model."""
        passed = {
            Subject.START: self.base if stage == STAGE else 90,
            Subject.CHECKPOINT: self.checkpoints_of(stage).get(step, 0),
            Subject.FINAL: self.final,
        }
        golden = passed.get(subject, self.base)
        split, task = ("test", self.test) if subject in (Subject.BASE, Subject.FINAL) else ("dev", DEV)
        return Evaluation(
            subject=subject,
            stage=stage,
            step=step,
            loss=0.5,
            digest=DIGEST,
            outcomes={
                **self._safety_outcomes(subject, step),
                **dict.fromkeys(
                    map(golden_set, (self.gate, *self.also)),
                    letters(golden) if isinstance(golden, int) else golden,
                ),
                task_set(split, "exact_match"): task,  # type: ignore[arg-type]
            },
            seconds=5.0,
            time=time,
        )

    def _safety_outcomes(self, subject: Subject, step: int) -> dict[str, str]:
        at_checkpoints = subject in (Subject.START, Subject.CHECKPOINT)
        if self.safety is None or (at_checkpoints and not self.safety_at_checkpoints):
            return {}
        base, final = self.safety
        if at_checkpoints:
            return {safety_set(self.gate): self.safety_at_checkpoints.get(step, base)}
        return {safety_set(self.gate): base if subject is Subject.BASE else final}

    def final_results(self, step: int, stage: str = STAGE) -> Results:
        """Return the results that the gate pod reports for the artifact of the checkpoint at ``step``."""
        evaluations = [self.evaluation(Subject.BASE, 0, stage), self.evaluation(Subject.FINAL, step, stage)]
        return Results(
            sets=self.sets(),
            evaluations=evaluations,
            error_rates=self.error_rates,
            last_published=self.gate_reads,
        )


class World:
    """An operator, a cluster, its pods and a clock. ``run`` runs a job to its end."""

    def __init__(self, script: Script | None = None, *, posts: bool = False) -> None:
        self.clock = FakeClock()
        self.cluster = FakeCluster(self.clock)
        self.script = script or Script()
        self._posts = posts
        self.is_reachable = True
        """Whether the operator is reachable for pods that post their reports."""
        self._delivered: dict[str, Future[None]] = {}
        self.metrics_sender = 0
        """Which pod of a multi-pod Job sends metrics to trackers: its position in the order in which the pods
        end."""
        self.observe: Observe = lambda *_: None
        """Called after each reconciliation."""
        self.count_failure: CountFailure = lambda *_: None
        """Called after each failure."""
        self.trainer_image = "trainer:test"
        """The trainer image in the operator's settings."""
        self.required_gates: tuple[str, ...] = ()
        """The required gates in the operator's settings."""
        self._late: list[WatchEvent] | None = None
        self._late_kinds: tuple[str, ...] = ()
        self._mounted: dict[str, str] = {}
        """The requests that pods of the role train read, as JSON, by the uid of their Job."""
        self.outbox: dict[str, Report] = {}
        """The reports on the volume, by file name."""
        self.boot()

    def boot(self) -> None:
        """Start a new operator process, which knows only the state of the cluster and the volume."""
        self.cache = Cache(self.cluster.get)
        self.cache.signer = Signer(b"the key of the certificate authority")
        self.queue = WorkQueue(self.clock)
        self.reconciler = Reconciler(
            self.cluster,
            self.cache,
            self.queue,
            [
                FineTuneJobController(
                    PodSettings(self.trainer_image, self._report_to()), self.required_gates
                ),
                EvalGateController(),
            ],
            self.clock,
            observe=self._observe,
            count_failure=self._count_failure,
        )
        self.cluster.watch(self._hear)
        self.reconciler.resync()
        self._deliver_outbox()

    def _observe(self, kind: str, seconds: float, succeeded: bool) -> None:
        self.observe(kind, seconds, succeeded)

    def _count_failure(self, kind: str, reason: str) -> None:
        self.count_failure(kind, reason)

    def without_operator(self) -> "World":
        """Return a copy of this world, in which the operator has just crashed. ``boot`` starts a new one."""
        dead = copy.copy(self)
        dead.cluster = self.cluster.snapshot()
        dead.clock = dead.cluster.clock
        dead.script = copy.deepcopy(self.script)
        dead.outbox = dict(self.outbox)
        dead._delivered = {name: sent for name, sent in self._delivered.items() if _acknowledged(sent)}
        return dead

    def moment(self) -> object:
        """Return a value that changes whenever the cluster, the volume or the time changes."""
        reports = sorted((name, report.sequence) for name, report in self.outbox.items())
        version, now = self.cluster.newest_version(), self.clock.now()
        return version, now, reports, self.acknowledged(), self.metrics_sender

    def acknowledged(self) -> list[str]:
        """Return the file names of the reports whose newest version the operator acknowledged."""
        return sorted(name for name, sent in self._delivered.items() if _acknowledged(sent))

    def _hear(self, event: WatchEvent) -> None:
        if self._late is not None and event.obj["kind"] in self._late_kinds:
            self._late.append(event)
        else:
            self.reconciler.handle(event)

    @contextmanager
    def late_children(self, *kinds: str) -> Iterator[None]:
        """Delay the watch events of ``kinds``, by default of Jobs and pods, until the context ends."""
        self._late, self._late_kinds = [], kinds or ("Job", "Pod")
        yield
        late, self._late = self._late, None
        for event in late:
            self.reconciler.handle(event)

    def _report_to(self) -> ReportTo | None:
        return ReportTo("https://tunegate-reports.tunegate.svc", "authority") if self._posts else None

    def _deliver_outbox(self) -> None:
        """Deliver all reports in the outbox. If pods post reports, skip the acknowledged ones."""
        for name, report in self.outbox.items():
            sent = self._delivered.get(name)
            if not (self._posts and sent and _acknowledged(sent)):
                self._deliver(report)

    def apply(self, *objects: Object) -> None:
        """Create objects as a user."""
        for obj in objects:
            self.cluster.as_user.create(obj)

    def signed(self, config_map: Object) -> Object:
        """Return a ConfigMap with the operator's signature."""
        assert self.cache.signer
        return self.cache.signer.sign(config_map)

    def apply_all(self, job: Object | None = None, gate: Object | None = None) -> None:
        """Create the ConfigMaps, the gate and the job as a user."""
        self.apply(
            make_config_map("rows", train__jsonl="{}"),
            make_config_map("cases", golden__jsonl=golden_text()),
            gate or make_gate().obj(),
            job or make_job().obj(),
        )

    # State

    def job(self, name: str = "orders") -> Object:
        found = self.cluster.as_user.get(Key("FineTuneJob", "default", name))
        assert found is not None, f"no FineTuneJob {name}"
        return found

    def status(self, name: str = "orders") -> FineTuneJobStatus:
        return FineTuneJobStatus.model_validate(self.job(name).get("status", {}))

    def gate(self, name: str = "golden") -> Object:
        found = self.cluster.as_user.get(Key("EvalGate", "default", name))
        assert found is not None, f"no EvalGate {name}"
        return found

    def condition(self, type: str, name: str = "orders") -> Any:
        return next((c for c in self.status(name).conditions if c.type == type), None)

    def jobs(self) -> list[str]:
        return sorted(job["metadata"]["name"] for job in self.cluster.as_user.list_objects("Job"))

    def active_jobs(self) -> list[Object]:
        """Return the operator's Jobs that have not ended, without the Job that tests call ``stranger``."""
        jobs = self.cluster.as_user.list_objects("Job")
        return [
            job
            for job in jobs
            if not job.get("status", {}).get("conditions") and job["metadata"]["name"] != "stranger"
        ]

    def status_writes(self) -> list[Write]:
        """Return all writes of a FineTuneJob's status."""
        return [w for w in self.cluster.writes if (w.verb, w.kind) == ("status", "FineTuneJob")]

    def events(self) -> list[str]:
        return [reason for _, _, reason, _ in self.cluster.events]

    def edit(self, name: str = "orders", **metadata_or_spec: Any) -> None:
        """Edit a job as a user: ``annotations=`` changes its metadata, every other argument its spec."""
        obj = self.job(name)
        annotations = metadata_or_spec.pop("annotations", None)
        if annotations:
            obj["metadata"].setdefault("annotations", {}).update(annotations)
        obj["spec"].update(metadata_or_spec)
        self.cluster.as_user.replace(obj)

    # Time

    def settle(self) -> None:
        """Let the operator make decisions until none is due at the current time."""
        assert self.reconciler.run_ready(MOST_DECISIONS) < MOST_DECISIONS, "decisions never settle"

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.settle()

    def run(self, name: str = "orders", turns: int = 60) -> FineTuneJobStatus:
        """Let the operator and the pods act in turns until nothing more happens. Return the status of the job
        ``name``."""
        for _ in range(turns):
            self.settle()
            if not self.tick():
                return self.status(name)
        raise AssertionError(f"still not at rest: {self.status(name).phase}")

    def until_checkpoint(self, name: str = "orders", turns: int = 20) -> None:
        """Let the operator and the pods act in turns until status shows a checkpoint of the job ``name``."""
        for _ in range(turns):
            self.settle()
            if self.status(name).checkpoints:
                return
            self.tick()
        raise AssertionError(f"no checkpoint; {self.status(name).message}")

    def until_job(self, role: str, turns: int = 40) -> None:
        """Let the operator and the pods act in turns until a Job of this role is active."""
        for _ in range(turns):
            self.settle()
            if any(job["metadata"]["labels"]["tunegate.dev/role"] == role for job in self.active_jobs()):
                return
            self.tick()
        raise AssertionError(f"no {role} Job; {self.status().message}")

    def tick(self) -> bool:
        """Simulate the next action of the pod of one active Job. Return whether there was an active Job."""
        self.clock.advance(1)
        for job in self.active_jobs():
            self.play(job)
            return True
        return False

    def play(self, job: Object) -> None:
        """Simulate the next action of a Job's pod."""
        name, labels = job["metadata"]["name"], job["metadata"]["labels"]
        role = Role(labels["tunegate.dev/role"])
        running = [p for p in self.cluster.pods_of(name) if p["status"].get("phase") == "Running"]
        if len(running) < job["spec"].get("completions", 1):
            self._mount(job)
            self.cluster.start_pod(name)
            return
        bad_ends = self.script.exits.get(role, [])
        if bad_ends:
            if role is Role.DATA and self.script.data_checks:
                uid = job["metadata"]["ownerReferences"][0]["uid"]
                self._write_report(job, role, uid, data_checks=self.script.data_checks)
            code, message = bad_ends.pop(0)
            self.cluster.finish_pod(name, code, message)
            return
        self._play_role(role, job)

    def _play_role(self, role: Role, job: Object) -> None:
        if role.is_chore:
            if role is Role.REPORT:
                self._deliver_outbox()
            elif role is Role.CLEANUP:
                self.outbox.clear()
            termination = Termination(exit_code=0, outcome=Outcome.COMPLETED).model_dump_json(by_alias=True)
            self.cluster.finish_pod(job["metadata"]["name"], 0, termination)
            return
        owner = job["metadata"]["ownerReferences"][0]
        uid, job_name = owner["uid"], owner["name"]
        if role is Role.DATA:
            spec = self.job(job_name)["spec"]
            stages = tuple(stage["name"] for stage in spec["stages"])
            sample = self.script.sample if "quality" in spec["data"] else None
            plan = plan_for(uid, stages, review=sample, auc=self.script.auc)
            self._finish(job, role, uid, plan=plan, data_checks=self.script.data_checks)
        elif role is Role.TRAIN:
            self._train(job, uid)
        elif role is Role.GATE:
            args = job["spec"]["template"]["spec"]["containers"][0]["args"]
            stage = args[args.index("--stage") + 1]
            results = self.script.final_results(_argument(job, "--step"), stage)
            self._finish(job, role, uid, results=results)
        else:
            spec = self.job(job_name)["spec"]
            published = [PublishedArtifact(uri=f"{t['uri']}/{uid}", digest=DIGEST) for t in spec["publish"]]
            found = self.script.publish_reads
            if found:
                published = published[: len(published) - 1]
            self._finish(job, role, uid, published=published, results=Results(last_published=found))

    def _train(self, job: Object, uid: str) -> None:
        """As a training pod, report the evaluation of the starting model or of the next checkpoint, or
        end."""
        stage = _stage(job)
        report = self.outbox.get(f"train-{stage}.json")
        known = report.results if report else Results(sets=self.script.sets())
        done = [e.step for e in known.find(Subject.CHECKPOINT)]
        if not known.find(Subject.START):
            new = self.script.evaluation(Subject.START, 0, stage, time=self.clock.now())
        elif no_checkpoint_can_pass(self._request(job), known, stage):
            self._finish(job, Role.TRAIN, uid, results=known)
            return
        else:
            due = [s for s in sorted(self.script.checkpoints_of(stage)) if s > max(done, default=0)]
            if self._is_stopped(known, job):
                self._finish(job, Role.TRAIN, uid, outcome=Outcome.STOPPED, results=known)
                return
            if not due:
                self._finish(job, Role.TRAIN, uid, results=known)
                return
            new = self.script.evaluation(Subject.CHECKPOINT, due[0], stage, time=self.clock.now())
        self._report_step(job, uid, known.merged(Results(evaluations=[new])), new.step)

    def report_progress(self, job: Object, step: int) -> None:
        """Report the step that a training pod has reached, without new results."""
        uid = job["metadata"]["ownerReferences"][0]["uid"]
        self._report_step(job, uid, self.outbox[f"train-{_stage(job)}.json"].results, step)

    def _report_step(self, job: Object, uid: str, results: Results, step: int) -> None:
        progress = Progress(
            stage=_stage(job),
            step=step,
            total_steps=50,
            percent=min(100, 2 * step),
            loss="0.5",
            updated=self.clock.now(),
        )
        evaluations = sum(e.seconds for e in results.evaluations)
        usage = Usage(
            steps=step,
            tokens=1000 * step,
            training_seconds=2.0 * step,
            evaluation_seconds=evaluations,
            peak_process_bytes=2**30,
        )
        self._write_report(job, Role.TRAIN, uid, results=results, progress=progress, usage=usage)

    def report_activity(self, job: Object, activity: str) -> None:
        """Report the current activity of a gate pod."""
        progress = Progress(
            stage=STAGE, step=50, total_steps=50, percent=100, activity=activity, updated=self.clock.now()
        )
        self._write_report(job, Role.GATE, job["metadata"]["ownerReferences"][0]["uid"], progress=progress)

    def report_outcome(self, job: Object, outcome: Outcome | None, results: Results | None = None) -> None:
        """Report how a pod ended, with ``results``, or as a training pod without new results."""
        uid, role = job["metadata"]["ownerReferences"][0]["uid"], Role(job["metadata"]["labels"][ROLE_LABEL])
        known = results or self.outbox[f"train-{_stage(job)}.json"].results
        self._write_report(job, role, uid, outcome=outcome, results=known)

    def _mount(self, job: Object) -> None:
        """Mount the request in a pod that starts. The pod keeps it if the ConfigMap is deleted later."""
        owner = job["metadata"]["ownerReferences"][0]
        key = Key("ConfigMap", "default", request_name(owner["name"], owner["uid"]))
        if recorded := self.cluster.as_user.get(key):
            self._mounted[job["metadata"]["uid"]] = recorded["data"].get(REQUEST_KEY, "")

    def _is_stopped(self, results: Results, job: Object) -> bool:
        """As a training pod, apply the stop rule to the recorded request."""
        found = assess_stage(self._request(job), results, _stage(job), _argument(job, "--accepted-step"))
        return found is not None and found.assessment.action is StopAction.STOP

    def _request(self, job: Object) -> Request:
        """Return the recorded request that is mounted in the pod of a child Job."""
        uid = job["metadata"]["uid"]
        if uid not in self._mounted:
            self._mount(job)
        return Request.model_validate_json(self._mounted[uid])

    def _finish(
        self, job: Object, role: Role, uid: str, outcome: Outcome = Outcome.COMPLETED, **report: object
    ) -> None:
        self._write_report(job, role, uid, outcome=outcome, **report)
        if self._posts and self.is_reachable:
            self.settle()  # the pod waits for the acknowledgement
        pods = job["spec"].get("completions", 1)
        for number in range(pods):
            behind = self.script.behind if number == self.metrics_sender % pods else None
            measured = self.script.baselines if role in (Role.TRAIN, Role.GATE) else []
            termination = Termination(
                exit_code=0,
                outcome=outcome,
                report_sha256=DIGEST,
                trackers_behind=behind,
                baselines=measured,
            )
            self.cluster.finish_pod(job["metadata"]["name"], 0, termination.model_dump_json(by_alias=True))

    def _write_report(self, job: Object, role: Role, uid: str, **content: Any) -> None:
        """Write a report to the volume, and deliver the report to the operator."""
        stage = _stage(job) if role is Role.TRAIN else None
        attempt = int(job["metadata"]["labels"]["tunegate.dev/attempt"])
        report = Report(
            job_uid=uid, role=role, stage=stage, attempt=attempt, sequence=1, time=self.clock.now(), **content
        )
        before = self.outbox.get(report.file_name)
        report = report.model_copy(update={"sequence": before.sequence + 1 if before else 1})
        self.outbox[report.file_name] = report
        self._deliver(report)

    def _deliver(self, report: Report) -> None:
        if not self.is_reachable:
            self._delivered.pop(report.file_name, None)
            return
        wire = report.model_dump(mode="json", by_alias=True, exclude_none=True)
        self._delivered[report.file_name] = self.reconciler.handle_report(wire)


def _acknowledged(delivery: Future[None]) -> bool:
    return delivery.done() and not delivery.cancelled()


def _rows(count: int) -> CaseSet:
    return CaseSet(sha256=DIGEST, ids=[f"row-{i}" for i in range(count)])


def _stage(job: Object) -> str:
    stage: str = job["metadata"]["labels"]["tunegate.dev/stage"]
    return stage


def _argument(job: Object, name: str) -> int:
    args = job["spec"]["template"]["spec"]["containers"][0]["args"]
    return int(args[args.index(name) + 1]) if name in args else 0


def failed(code: ExitCode, reason: str, message: str, *, behind: list[str] | None = None) -> tuple[int, str]:
    """Return the exit code and the termination message of a pod that reports why it failed."""
    termination = Termination(
        exit_code=code,
        outcome=Outcome.FAILED,
        failure=Failure(reason=reason, message=message, hint="mend it"),
        trackers_behind=behind,
    )
    return int(code), termination.model_dump_json(by_alias=True)


def at(world: World, seconds: float) -> datetime:
    """Return the time ``seconds`` after the current time of the world."""
    return datetime.fromtimestamp(world.clock.now().timestamp() + seconds, world.clock.now().tzinfo)
