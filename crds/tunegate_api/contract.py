"""What operator and trainer exchange: request in, plan and results out, exit codes. One definition for both.

Files, as a trainer process sees them below ``$TUNEGATE_ROOT`` (``/tunegate`` in a pod)::

    request/request.json          Request, from an immutable ConfigMap
    plan/plan.json                Plan, from an immutable ConfigMap (not for the data role, which makes it)
    inputs/<configmap>/<key>      ConfigMaps that spec or gates refer to
    secrets/<secret>/<key>        Secrets with the credentials for URIs, for the role alone that needs them
    volumes/<claim>/…             PersistentVolumeClaims that URIs refer to
    workspace/                    the storage volume, see :class:`tunegate_api.workspace.Workspace`
    termination.json              Termination, written last
    report/token                  the pod's token for reporting to the operator, where that is to be done
"""

import hashlib
import json
from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Literal

from tunegate_api import GROUP
from tunegate_api.baselines import MeasuredBaseline
from tunegate_api.judging.verdict import CaseSet
from tunegate_api.memory.shapes import Memory, ModelShape
from tunegate_api.meta import Listed, Mapped, Sha256, StatusModel, Time
from tunegate_api.plan import DataPlan, Plan, StagePlan, TrainingParameters
from tunegate_api.published import LastPublished, PublishedVersion
from tunegate_api.v1alpha1.data import Goal
from tunegate_api.v1alpha1.evalgate import EvalGateSpec
from tunegate_api.v1alpha1.finetunejob import FineTuneJobSpec
from tunegate_api.v1alpha1.finetunejob_status import Failure, Progress
from tunegate_api.v1alpha1.reasons import Reason
from tunegate_api.workspace import Workspace

ROOT_VARIABLE = "TUNEGATE_ROOT"
DEFAULT_ROOT = "/tunegate"

REPORT_URL_VARIABLE = "TUNEGATE_REPORT_URL"
"""Where a pod posts its reports; without it, the files in the outbox are all of the reporting."""
REPORT_CA_VARIABLE = "TUNEGATE_REPORT_CA"
"""The certificate authority of that address, in PEM."""
MASTER_VARIABLE = "TUNEGATE_MASTER"
"""Where the pods that train together meet: HOST:PORT of the first."""
NODE_VARIABLE = "TUNEGATE_NODE"
"""Which of these pods this is, from 0."""
REPORT_TOKEN_SECONDS = 3600
"""How long a reporting token lives; kubelet renews it in time."""


def report_path(job_uid: str) -> str:
    """The path at the operator that takes a :class:`Report` by POST.

    200: status says it, or it told only progress. 401 and 403: the token is refused. 404: no such job.
    413: too large. 422: no report, or not one that this pod may send. 503: try again later.
    """
    return f"/v1/jobs/{job_uid}/report"


def report_audience(job_uid: str) -> str:
    """The audience of the tokens that may report on a job: no other job's token will do."""
    return f"{GROUP}/{job_uid}"


MINIMUM_ROWS: dict[Goal, int] = {
    "StyleOrFormat": 200,
    "DomainVocabulary": 500,
    "TaskSpecialization": 1000,
    "InstructionFollowing": 2000,
}
"""Training rows below which a goal is out of reach (mission D5)."""


class Role(StrEnum):
    """What a child Job does: the first argument of the trainer."""

    DATA = "data"
    TRAIN = "train"
    GATE = "gate"
    PUBLISH = "publish"
    REPORT = "report"
    """Only sends what earlier pods could not: the reports that lie in the outbox."""
    TRACK = "track"
    """Only tells the trackers what earlier pods could not, and how the job ended."""
    CLEANUP = "cleanup"

    @property
    def is_chore(self) -> bool:
        """Whether it does nothing for the model: a small pod, which reports nothing of its own."""
        return self in (Role.REPORT, Role.TRACK, Role.CLEANUP)

    @property
    def sends_metrics(self) -> bool:
        """Whether its pods tell the job's trackers what is new."""
        return self is Role.TRACK or not self.is_chore


class ExitCode(IntEnum):
    """How a trainer process ended. The permanent ones never succeed on a retry."""

    OK = 0
    INTERNAL_ERROR = 1
    BAD_DATA = 10
    NOT_FOUND = 11
    CREDENTIALS = 12
    USER_ERROR = 13
    NO_ACCELERATOR = 14
    CUDA_OUT_OF_MEMORY = 15
    STORAGE = 16
    UNREACHABLE = 17
    INTERRUPTED = 75
    """Asked to stop by SIGTERM, everything saved: another attempt goes on from there."""

    @property
    def is_permanent(self) -> bool:
        return ExitCode.BAD_DATA <= self <= ExitCode.CUDA_OUT_OF_MEMORY


PERMANENT_EXIT_CODES = [int(code) for code in ExitCode if code.is_permanent]


class Outcome(StrEnum):
    """What a role achieved. A verdict is not an outcome: a gate that measured a bad model is Completed."""

    COMPLETED = "Completed"
    STOPPED = "Stopped"
    """The stop rule ended training; its last checkpoint is complete."""
    INTERRUPTED = "Interrupted"
    FAILED = "Failed"


class GateRequest(StatusModel):
    """An EvalGate as it was read."""

    name: str
    spec: EvalGateSpec
    golden_sha256: Sha256
    last_published: PublishedVersion | None = None
    """What checkpoints are compared with as LastPublished, and the artifact too where the publish targets
    hold no evidence of this gate. None while nothing was published."""


class StartRequest(StatusModel):
    """The model that another job ended with, as its status and its plan had it."""

    job: str
    uid: str
    claim: str
    """The PersistentVolumeClaim that its folder lies on."""
    digest: Sha256
    """Of the artifact that passed."""
    base_digest: Sha256
    """Of that job's own model, which an adapter stands beside, in ``models/`` of the claim."""
    trained: TrainingParameters
    """How the artifact's stage was trained."""

    @property
    def uri(self) -> str:
        """Where the artifact lies."""
        return f"pvc://{self.claim}/{Workspace(self.uid).model}"


class Request(StatusModel):
    """What a job asks for. Later edits of an EvalGate don't change it."""

    name: str
    namespace: str
    uid: str
    spec: FineTuneJobSpec
    gates: list[GateRequest]
    start_from: StartRequest | None = None
    """Where the spec names a job to start from."""
    trainer_image: str | None = None
    """The image of all pods of the job, as the operator had it when the job began."""

    def gate(self, name: str) -> GateRequest:
        return next(g for g in self.gates if g.name == name)

    def gates_of(self, stage: str) -> list[GateRequest]:
        """The gates of a stage: its own, or the job's."""
        own = next(s for s in self.spec.stages if s.name == stage).gates
        return [self.gate(g.name) for g in (own or self.spec.gates)]

    @property
    def final_gates(self) -> list[GateRequest]:
        """The gates that the published artifact must pass."""
        return [self.gate(g.name) for g in self.spec.gates]

    @property
    def compares_with_published(self) -> bool:
        """Whether the artifact is compared with what its publish targets hold."""
        names = {gate.name for gate in self.spec.gates}
        gates = [gate for gate in self.gates if gate.name in names]
        return bool(self.spec.publish) and any("LastPublished" in gate.spec.baselines for gate in gates)


class Subject(StrEnum):
    """Which weights an evaluation is about."""

    BASE = "Base"
    """The model the job started from, as the gate's baseline."""
    START = "Start"
    """The model a stage started from; step 0."""
    CHECKPOINT = "Checkpoint"
    FINAL = "Final"
    """The exact artifact that would be published, loaded fresh."""


HeldOutSplit = Literal["dev", "test"]
"""Held-out rows: dev scores checkpoints, test is opened once, by the final gate."""


def golden_set(gate: str) -> str:
    """The name of a gate's golden set in :class:`Results`."""
    return f"golden/{gate}"


def task_set(split: HeldOutSplit, metric: str) -> str:
    """The name of a task metric measured on a held-out split, in :class:`Results`."""
    return f"{split}/{metric}"


class Evaluation(StatusModel):
    """The outcomes of all sets on one set of weights."""

    subject: Subject
    stage: str
    """The stage the weights come from; of Base and Final, the last stage."""
    step: int
    loss: float | None = None
    """Training loss at that step."""
    digest: Sha256 | None = None
    """Of the weights; of Final, of all files of the artifact."""
    outcomes: Mapped[str]
    """Set name to one letter a case, see :mod:`tunegate_api.judging.verdict`."""
    counts: Mapped[str] | None = None
    """Set name to two counts a case, of metrics of :mod:`tunegate_api.judging.counts`. None without these."""
    seconds: float = 0.0
    """Time the evaluation took."""

    @property
    def key(self) -> tuple[str, str, int]:
        return (self.stage, self.subject, self.step)


class Results(StatusModel):
    """Measured outcomes, cumulative and idempotent: merging a report twice changes nothing."""

    sets: Mapped[CaseSet] = {}
    evaluations: Listed[Evaluation] = []
    last_published: LastPublished | None = None
    """What the artifact is compared with as LastPublished. None before the publish targets were read, and
    while they hold nothing."""

    def merged(self, newer: "Results") -> "Results":
        """These results and ``newer`` ones; where both measured the same weights, the newer measurement, and
        in any order of merging the last reading of the publish targets."""
        by_key = {e.key: e for e in self.evaluations} | {e.key: e for e in newer.evaluations}
        readings = [found for found in (newer.last_published, self.last_published) if found]
        return Results(
            sets=self.sets | newer.sets,
            evaluations=list(by_key.values()),
            last_published=max(readings, key=lambda found: found.reading, default=None),
        )

    def find(self, subject: Subject, stage: str | None = None) -> list[Evaluation]:
        """Evaluations of ``subject``, in the order of their steps."""
        found = [e for e in self.evaluations if e.subject is subject and stage in (None, e.stage)]
        return sorted(found, key=lambda e: e.step)


class PublishedArtifact(StatusModel):
    uri: str
    digest: Sha256


class Usage(StatusModel):
    """What training a stage took, in all its attempts."""

    steps: int = 0
    """Optimizer steps that were computed, also those that were lost."""
    tokens: int = 0
    training_seconds: float = 0.0
    """In optimizer steps."""
    evaluation_seconds: float = 0.0
    peak_gpu_bytes: int = 0
    """Of tensors."""
    peak_process_bytes: int = 0
    """Resident, where a CPU trains."""


class Report(StatusModel):
    """What a running pod tells the operator: all of its stage each time, so that any one may be lost."""

    job_uid: str
    role: Role
    stage: str | None = None
    """For the train role."""
    attempt: int
    sequence: int
    """Rises with every report of a job's role and stage, also across attempts."""
    time: Time
    progress: Progress | None = None
    usage: Usage | None = None
    """Of the stage."""
    plan: Plan | None = None
    """From the data role."""
    results: Results = Results()
    published: Listed[PublishedArtifact] = []
    outcome: Outcome | None = None
    """Set in the last report of a pod."""
    failure: Failure | None = None

    @property
    def file_name(self) -> str:
        """Its name in the outbox. A later attempt of the same role and stage goes on in the same file."""
        return f"{self.role}-{self.stage}.json" if self.stage else f"{self.role}.json"


class ModelForecast(StatusModel):
    """The model of a :class:`Forecast`."""

    uri: str
    parameters: int
    shape: ModelShape | None = None


class Termination(StatusModel):
    """The termination message of a pod, at most 4 KiB."""

    exit_code: int
    outcome: Outcome
    failure: Failure | None = None
    report_sha256: Sha256 | None = None
    """Digest of the last report's file."""
    trackers_behind: list[str] | None = None
    """Trackers that were not told all that this pod knew. None where it did not come to ask them."""
    baselines: list[MeasuredBaseline] = []
    """The files of the baseline cache that this pod wrote or used, as far as there is room. They are here and
    in no report, because reports lie on the volume first."""


def cause_priority(exit_code: int, failure: Failure | None) -> int:
    """A number for how one of several processes ended that train together: the highest says why all did.

    One that lost the others says least, then one that was asked to stop; what another attempt would meet
    again says most.
    """
    if failure is not None and failure.reason == Reason.PEER_LOST:
        return 1
    if exit_code == ExitCode.OK:
        return 0
    if exit_code == ExitCode.INTERRUPTED:
        return 2
    return 4 if exit_code in PERMANENT_EXIT_CODES else 3


class Forecast(StatusModel):
    """What ``tunegate plan`` finds out: as much of a plan as there is without training, or a GPU."""

    model: ModelForecast
    data: DataPlan | None = None
    """None where rows, golden sets or tokenizer are not at hand. Steps and tokens of stages are 0 then, and
    their largest pass is one example of the greatest length."""
    stages: list[StagePlan] = []
    judging: Memory | None = None
    """As of :class:`tunegate_api.plan.Plan`."""
    notes: list[str] = []
    """What is not known, and why."""
    failure: Failure | None = None
    """Why the job would be refused before it trains."""


class FileManifest(StatusModel):
    """manifest.json of a checkpoint or an artifact: what belongs to it, and the digest of each file."""

    files: dict[str, Sha256]
    digest: Sha256
    """Of all files, see :func:`files_digest`. A published version has the digest of the artifact that was
    judged, though card and evidence lie beside it."""


def files_digest(files: Mapping[str, Sha256]) -> Sha256:
    """One digest of a folder, by the names and digests of its files: all that decides how a model behaves,
    its tokenizer and chat template too. SHA-256 of the object as JSON, keys sorted and without spaces."""
    return sha256_text(json.dumps(dict(files), sort_keys=True, separators=(",", ":")))


def canonical_json(model: StatusModel) -> str:
    """One text for equal content: sorted keys, no spaces. What digests of plans are taken of."""
    return json.dumps(
        model.model_dump(mode="json", by_alias=True, exclude_none=True), sort_keys=True, separators=(",", ":")
    )


def plan_digest(plan: Plan) -> Sha256:
    """What plans of the same run share: the digest of all but the image, which only a cluster can tell."""
    return sha256_text(canonical_json(plan.model_copy(update={"image": None})))


def sha256_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
