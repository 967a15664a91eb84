"""The reports of running pods, and how they are sent."""

from tunegate_api import GROUP
from tunegate_api.contract.plan import Plan
from tunegate_api.contract.process import Outcome, Role
from tunegate_api.contract.results import Results
from tunegate_api.meta import Count, Listed, Seconds, Sha256, StatusModel, Time
from tunegate_api.v1alpha2.data_status import DataCheckResult
from tunegate_api.v1alpha2.finetunejob_status import Failure, Progress

REPORT_URL_VARIABLE = "TUNEGATE_REPORT_URL"
"""Environment variable with the URL for reports. If the variable is not set, reports are only written to the
outbox."""
REPORT_CA_VARIABLE = "TUNEGATE_REPORT_CA"
"""Environment variable with the CA certificate of the server at ``TUNEGATE_REPORT_URL``, in PEM format."""
REPORT_TOKEN_SECONDS = 3600
"""Lifetime of a token for reports, in seconds. The kubelet renews the token before it expires."""


def report_path(job_uid: str) -> str:
    """Return the path of the operator's URL for reports on a job. Pods send a :class:`Report` to it by POST.

    Responses: 200, the report is recorded in status; its progress and usage may follow later. 401, the
    request has no token. 403, the token is refused. 404, the job does not exist. 413, the report is too
    large. 422, the body is not a report, or the pod may not send this report. 503, the pod must retry later.
    """
    return f"/v1/jobs/{job_uid}/report"


def report_audience(job_uid: str) -> str:
    """Return the audience of the tokens with which pods report on a job. Each job has its own."""
    return f"{GROUP}/{job_uid}"


class PublishedArtifact(StatusModel):
    uri: str
    digest: Sha256


class Usage(StatusModel):
    """The cost of training a stage, over all its attempts."""

    steps: Count = 0
    """Number of computed optimizer steps. A step that was repeated after an interruption counts twice."""
    tokens: Count = 0
    training_seconds: Seconds = 0.0
    """Seconds spent in optimizer steps."""
    evaluation_seconds: Seconds = 0.0
    peak_gpu_bytes: Count = 0
    """Peak memory of tensors on the GPU of rank 0, in bytes."""
    peak_process_bytes: Count = 0
    """Peak resident memory of the process with rank 0 in bytes, if the stage trains without GPUs."""


class Report(StatusModel):
    """A report of a running pod. Each report has all results of its stage, so the loss of one report does no
    harm."""

    job_uid: str
    role: Role
    stage: str | None = None
    """Name of the stage, for the role train."""
    attempt: int
    sequence: int
    """Number of the report. It increases with every report of the same role and stage, also from one attempt
    to the next."""
    time: Time
    progress: Progress | None = None
    usage: Usage | None = None
    """Cost of training the stage so far."""
    plan: Plan | None = None
    """The plan. Only reports of the role data have one."""
    data_checks: Listed[DataCheckResult] = []
    """Results of the data checks so far. Only reports of the role data have them."""
    results: Results = Results()
    published: Listed[PublishedArtifact] = []
    outcome: Outcome | None = None
    """Set in the last report of a pod."""
    failure: Failure | None = None

    @property
    def file_name(self) -> str:
        """The file name of the report in the outbox. All attempts of a role and stage use the same file
        name."""
        return f"{self.role}-{self.stage}.json" if self.stage else f"{self.role}.json"
