"""The status of an EvalGate: its golden set, and the records of the model versions that it judged."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from tunegate_api.meta import Condition, Decimal, Sha256, StatusModel, Time
from tunegate_api.v1alpha2.error_rate_status import RecordedErrorRate
from tunegate_api.v1alpha2.evaluation_status import BaselineDigest
from tunegate_api.verdict.outcomes import VerdictState

MAX_RECORDS = 20
"""Maximum number of records in status: of published and unpublished versions together."""
MAX_URI_BYTES = 6 * 1024
"""Maximum total size of the URIs in status, in bytes, so that status stays below 32 KiB."""
MAX_OUTCOME_BYTES = 6 * 1024
"""Maximum total size of the outcomes in status, in bytes, so that status stays below 32 KiB."""


MAX_BASELINES = 10
"""Maximum number of cached baselines in status, of 190 bytes each, so that status stays below 32 KiB."""


MAX_RECENT_LOOKS = 8
"""Maximum number of jobs in status that were counted last."""
MAX_RUNNING_LOOKS = 4
"""Maximum number of them that run. Further running jobs are counted when they end."""
MAX_ERROR_RATES = 3
"""Maximum number of measured error rates in status, of 900 bytes each without the ids of cases, so that
status stays below 32 KiB."""


class GateReason(StrEnum):
    """Why an EvalGate is ready or not."""

    GOLDEN_READ = "GoldenRead"
    """Ready: the golden set was read, and matches the digest in the spec."""
    GOLDEN_PINNED = "GoldenPinned"
    """Ready: the golden set is at a `uri`, which the operator does not read, and is pinned by its `sha256`.
    The data Job of each FineTuneJob checks its digest, its cases and its rules."""
    READING_RECORDS = "ReadingRecords"
    """Not ready yet: the operator reads which models of ended jobs this gate judged, a hundred jobs at a
    time. Without them, a job could be compared with an old published version."""
    RECORDS_REFUSED = "RecordsRefused"
    """The cluster refuses the ConfigMap in which the gate records the models that it judged, for example
    because another object has its name. Jobs would not be compared with these models. The message says
    what to do."""
    CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound"
    """The ConfigMap with a set of cases does not exist yet, or lacks the key in `source.key`. Or that field
    is omitted, and the ConfigMap does not have exactly one key."""
    DIGEST_MISMATCH = "DigestMismatch"
    """The digest of a set of cases differs from its `sha256`. For a changed golden set, create another
    EvalGate."""
    BAD_GOLDEN = "BadGolden"
    """The golden set has invalid cases. The message names each invalid line."""
    BAD_SAFETY = "BadSafety"
    """The safety set has invalid cases, or too few for its limits. The message names each invalid line."""
    UNREACHABLE_RULES = "UnreachableRules"
    """No model could pass: rules name cases that do not exist, or the set has too few cases for
    them."""
    NO_RULE_CAN_FAIL = "NoRuleCanFail"
    """No model could fail: no rule has a minimum, and the base model of the newest job passes too few golden
    cases for a rule that compares with it. Set `minPassRate`."""
    LOW_DETECTION = "LowDetection"
    """The newest measured error rate of the gate is below `errorRate.minDetection`. The message shows the
    arithmetic and what to do."""
    INVALID_SPEC = "InvalidSpec"
    """The spec contradicts itself."""
    INTERNAL_ERROR = "InternalError"
    """Only in the condition Stalled and in an event: the operator cannot reconcile the gate because of a bug,
    and retries. The condition Ready is that of the last decision."""


class JudgedModel(StatusModel):
    """A final model that this gate judged."""

    job: str
    """Name of the FineTuneJob that trained the model."""
    job_uid: str
    """UID of the FineTuneJob."""
    step: int
    """Optimizer step of the checkpoint that became the final model."""
    model_digest: Sha256
    """Digest of all files of the judged artifact."""
    golden_sha256: Sha256
    """Digest of the golden set. Records with the same digest can be compared case by case."""
    scoring: Annotated[str, Field(max_length=64)] | None = None
    """Start of the digest of the settings of the generation, the judge and the guardrail with which the cases
    were scored. If a job's gate has others, its checkpoints are not compared with this version, and the final
    gate evaluates it again. Absent if the request of the job could not be read; then the outcomes are
    always compared."""
    passed: int
    """Number of golden cases that passed."""
    total: int
    """Number of cases in the golden set."""
    independent: int | None = None
    """Number of independent cases that the `total` cases are worth, if all cases of a group pass or fail
    together. Absent if no cases have groups."""
    base_passed: int | None = None
    """Number of golden cases that the base model passed, out of `total`. Absent if the final gate did not
    evaluate the base model."""
    outcomes: Annotated[str, Field(max_length=1000)] = ""
    """Outcome of each case, one letter per case in the order of the set: p passed, f failed, t truncated, e
    error. Status keeps at most 6 KiB of outcomes in total: the outcomes of the newest published versions,
    with which checkpoints of later jobs are compared case by case. The ConfigMap named by `recordsConfigMap`
    has all outcomes."""
    verdict: VerdictState
    """Verdict of the gate."""
    overridden: bool | None = None
    """True if the model did not pass this gate, and a person overrode the verdict of its job. If it is
    published, later models are compared with it. Absent otherwise."""
    dry_run: bool | None = None
    """True if the gate was in a dry run when the job started: the verdict blocked nothing. Absent
    otherwise."""
    published_uris: Annotated[list[str], Field(max_length=4)] = []
    """URIs that this version was published to. Empty if it was not published. Status keeps at most 6 KiB of
    URIs in total, for the newest versions. The ConfigMap named by `recordsConfigMap` has all URIs."""
    time: Time
    """Time of the judgement."""

    @property
    def is_baseline(self) -> bool:
        """Whether later models are compared with this version if it is published. A version that failed a
        gate in a dry run is no baseline."""
        return self.verdict is VerdictState.PASSED or bool(self.overridden)


class RecordedBaseline(BaselineDigest):
    """Cached results of a base model. A later job with this gate may use them instead of evaluating the base
    model again."""

    time: Time
    """Creation time of the newest FineTuneJob that measured or used these results."""


class CountedJob(StatusModel):
    """A FineTuneJob that is part of the counts."""

    job_uid: str
    """UID of the FineTuneJob."""
    ended: Time | None = None
    """Time at which the job ended. Absent while it runs."""
    checkpoints: int | None = None
    """Number of its checkpoints that are part of the counts while it runs. The others are added when it
    ends."""
    finals: int | None = None
    """Number of its final models that are part of the counts while it runs."""


class Looks(StatusModel):
    """How often jobs evaluated models on the golden set. The more often the best result on a set is selected,
    the more it is too high. A job counts at its first evaluation, and its later evaluations are added when it
    ends. A repeated job counts again, and a deleted job stays counted."""

    golden_sha256: Sha256
    """Digest of the golden set. Another set starts a new count."""
    since: Time
    """Creation time of the first job that counts."""
    jobs: int
    """Number of FineTuneJobs that evaluated a model on the set."""
    checkpoints: int
    """Number of evaluated checkpoints, on the cases that are not sealed."""
    finals: int
    """Number of final models that were evaluated, published or not. Only they are evaluated on sealed
    cases."""
    message: Annotated[str, Field(max_length=128)] | None = None
    """By up to how many percentage points the best of the final models reads too high on average. Absent if
    there are fewer than two."""
    recent: Annotated[list[CountedJob], Field(max_length=MAX_RECENT_LOOKS)] = []
    """The jobs that run or ended last, so that each is read and counted once."""
    counted_until: Time | None = None
    """All jobs that ended until this time were read. They are part of the counts if they evaluated a model on
    the set, although `recent` does not list them."""


class EvalGateStatus(StatusModel):
    """Status of an EvalGate, written by the operator."""

    observed_generation: int | None = None
    """Generation of the spec that this status describes."""
    conditions: Annotated[list[Condition], Field(max_length=8)] = []
    """Conditions of the gate, for programs."""
    cases: int | None = None
    """Number of cases in the golden set."""
    digest: Sha256 | None = None
    """Digest of the golden set that was read."""
    safety_cases: int | None = None
    """Number of cases in the safety set. Absent if the gate has none, or if only pods read the set, at
    `safety.source.uri`."""
    safety_digest: Sha256 | None = None
    """Digest of the safety set that was read, or that is pinned if only pods read the set."""
    last: Annotated[str, Field(max_length=128)] | None = None
    """The last judged model, as JOB/STEP."""
    last_verdict: VerdictState | None = None
    """Verdict of the last judged model."""
    pass_rate: Decimal | None = None
    """Golden pass rate of the last judged model."""
    base_rate: Decimal | None = None
    """Golden pass rate of the base model that the last judged model was compared with."""
    published_rate: Decimal | None = None
    """Golden pass rate of the last published version."""
    records: Annotated[list[JudgedModel], Field(max_length=MAX_RECORDS)] = []
    """Judged versions, newest first: for each URI, the newest version that passed or was overridden and was
    published to it, and the newest other versions."""
    looks: Looks | None = None
    """How often models were evaluated on the golden set. Absent until the first one was."""
    records_config_map: Annotated[str | None, Field(max_length=63)] = None
    """Name of the ConfigMap with the full records: with all URIs, and with the outcome of each case, so that
    versions can be compared case by case. Absent until a model was judged."""

    baselines: Annotated[list[RecordedBaseline], Field(max_length=MAX_BASELINES)] = []
    """Cached results of base models that jobs with this gate measured or used, starting with the newest jobs.
    A pod reuses a baseline that is listed here or in the status of the pod's job. All other baselines are
    measured again."""

    error_rates: Annotated[list[RecordedErrorRate], Field(max_length=MAX_ERROR_RATES)] = []
    """Error rates that jobs with this gate measured, starting with the newest job. There is one for each base
    model, golden set, scoring and rules, at most 3."""
    error_rate: Annotated[str, Field(max_length=256)] | None = None
    """The newest error rate with the current golden set, scoring and rules, in words. Absent if it was
    not measured."""

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON form, without empty values."""
        return {k: v for k, v in super().to_wire().items() if v not in ({}, [], "")}
