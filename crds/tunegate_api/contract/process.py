"""How a trainer process is started, and how it ends."""

from enum import IntEnum, StrEnum

from tunegate_api.contract.baselines import MeasuredBaseline
from tunegate_api.meta import Sha256, StatusModel
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.v1alpha2.reasons import Reason

ROOT_VARIABLE = "TUNEGATE_ROOT"
DEFAULT_ROOT = "/tunegate"
FAILURE_FILE = "failure.json"
"""The file, below the root, in which the trainer writes why it could not do what a command of ``tunegate``
needs, as a :class:`Failure`."""

MASTER_VARIABLE = "TUNEGATE_MASTER"
"""Environment variable with HOST:PORT of the pod with rank 0 in distributed training."""
NODE_VARIABLE = "TUNEGATE_NODE"
"""Environment variable with the number of this pod in distributed training, from 0."""
LOCAL_ADDRESSES_VARIABLE = "TUNEGATE_LOCAL_ADDRESSES"
"""Environment variable with the networks among loopback and link-local addresses to which a pod may connect,
separated by commas. If the variable is not set, as on a laptop, a pod may connect to all addresses."""


class Role(StrEnum):
    """The role of a child Job, which is the first argument of the trainer."""

    DATA = "data"
    TRAIN = "train"
    GATE = "gate"
    PUBLISH = "publish"
    REPORT = "report"
    """Sends the reports in the outbox that earlier pods could not deliver."""
    TRACK = "track"
    """Sends to the trackers how the job ended, and the metrics that earlier pods could not deliver."""
    CLEANUP = "cleanup"

    @property
    def is_chore(self) -> bool:
        """Whether the role only does follow-up work. Pods of such a role are small, and send no reports about
        their own work."""
        return self in (Role.REPORT, Role.TRACK, Role.CLEANUP)

    @property
    def sends_metrics(self) -> bool:
        """Whether pods of this role send metrics to the trackers of the job."""
        return self is Role.TRACK or not self.is_chore


class ExitCode(IntEnum):
    """Exit code of a trainer process. After a permanent exit code, a retry cannot succeed."""

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
    """The process was stopped by SIGTERM, and saved its state. The next attempt resumes from that state."""

    @property
    def is_permanent(self) -> bool:
        return ExitCode.BAD_DATA <= self <= ExitCode.CUDA_OUT_OF_MEMORY


PERMANENT_EXIT_CODES = [int(code) for code in ExitCode if code.is_permanent]


class Outcome(StrEnum):
    """How a role ended. An outcome is not a verdict: if a gate measured a model that is not good enough, its
    outcome is Completed and its verdict Failed."""

    COMPLETED = "Completed"
    STOPPED = "Stopped"
    """The stop rule ended training after a complete checkpoint."""
    INTERRUPTED = "Interrupted"
    FAILED = "Failed"


class Termination(StatusModel):
    """The termination message of a pod, at most 4 KiB."""

    exit_code: int
    outcome: Outcome
    failure: Failure | None = None
    report_sha256: Sha256 | None = None
    """Digest of the file in the outbox that contains the pod's last report. None if the pod wrote no last
    report."""
    trackers_behind: list[str] | None = None
    """Trackers that did not receive all metrics of this pod. None if the job has no trackers, or if the pod
    ended before it had tried to send all metrics."""
    baselines: list[MeasuredBaseline] = []
    """Digests of the cached baselines that this pod wrote or used, as many as fit into the message. A report
    on the volume does not contain these digests, because other pods could change them there."""


def cause_priority(exit_code: int, failure: Failure | None) -> int:
    """Return how well the end of one rank explains why distributed training ended. 4 explains it best.

    0: the rank succeeded. 1: the rank only lost its peers. 2: the rank was stopped. 3: the rank failed. 4:
    the rank failed permanently, so a retry cannot succeed.
    """
    if failure is not None and failure.reason == Reason.PEER_LOST:
        return 1
    if exit_code == ExitCode.OK:
        return 0
    if exit_code == ExitCode.INTERRUPTED:
        return 2
    return 4 if exit_code in PERMANENT_EXIT_CODES else 3
