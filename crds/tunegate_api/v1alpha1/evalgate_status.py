"""The status of an EvalGate: the set it judges by, and the record of the versions it judged."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from tunegate_api.judging.verdict import VerdictState
from tunegate_api.meta import Condition, Decimal, Sha256, StatusModel, Time
from tunegate_api.v1alpha1.evaluation_status import BaselineDigest

MAX_RECORDS = 20
"""Judged versions that status remembers, published and not."""
MAX_URI_BYTES = 12 * 1024
"""Bytes of all URIs that status lists, so that it stays below 32 KiB."""
MAX_OUTCOME_BYTES = 6 * 1024
"""Bytes of all outcomes that status keeps, for the same reason."""


MAX_BASELINES = 10
"""Cached baselines that status remembers, with 190 bytes each, for the same reason."""


class GateReason(StrEnum):
    """Why an EvalGate is ready or not."""

    GOLDEN_READ = "GoldenRead"
    """Ready: the golden set was read and has the digest that the spec says."""
    CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound"
    """The ConfigMap with the golden set, or the key in it, does not exist yet."""
    DIGEST_MISMATCH = "DigestMismatch"
    """The golden set is not the one that `golden.sha256` pins. A changed set is another gate."""
    BAD_GOLDEN = "BadGolden"
    """The golden set cannot be judged by: the message names each bad line."""
    UNREACHABLE_THRESHOLDS = "UnreachableThresholds"
    """No model could pass: `thresholds` name cases that do not exist, or the cases are too few for them."""
    INVALID_SPEC = "InvalidSpec"
    """The spec contradicts itself, or asks for something that is not supported yet."""


class Record(StatusModel):
    """One final model that this gate judged."""

    job: str
    """The FineTuneJob that made it."""
    job_uid: str
    """The uid of the FineTuneJob."""
    step: int
    """The optimizer step of the checkpoint that became the final model."""
    model_digest: Sha256
    """The digest of all files of the judged artifact."""
    golden_sha256: Sha256
    """The digest of the golden set. Records compare case by case where these are equal."""
    passed: int
    """Golden cases that passed."""
    total: int
    """Cases in the golden set."""
    base_passed: int | None = None
    """Golden cases that the base model passed, of the same total."""
    outcomes: Annotated[str, Field(max_length=1000)] = ""
    """One letter a case in the order of the set: p passed, f failed, t truncated, e error. The ConfigMap that
    `recordsConfigMap` names has them all. Status keeps 6 KiB of them, those of the newest versions that were
    published last: an earlier release compares with these."""
    verdict: VerdictState
    """What the gate said of it."""
    published_uris: Annotated[list[str], Field(max_length=4)] = []
    """The URIs of the job's `publish` that this version went to; none when it was not published. Status lists
    12 KiB of them, the newest first; the ConfigMap has all."""
    time: Time
    """When it was judged."""


class RecordedBaseline(BaselineDigest):
    """A cached baseline that later jobs with this gate may use instead of measuring it again."""

    time: Time
    """When the newest FineTuneJob was created that measured or used it."""


class EvalGateStatus(StatusModel):
    """What the operator read and recorded."""

    observed_generation: int | None = None
    """The generation of the spec that this status is about."""
    conditions: Annotated[list[Condition], Field(max_length=8)] = []
    """Observed facts, for machines."""
    cases: int | None = None
    """Cases in the golden set."""
    digest: Sha256 | None = None
    """The digest of the golden set as it was read."""
    last: Annotated[str, Field(max_length=128)] | None = None
    """The last judged model: job/step."""
    last_verdict: VerdictState | None = None
    """What the gate said of the last judged model."""
    pass_rate: Decimal | None = None
    """Golden rate of the last judged model."""
    base_rate: Decimal | None = None
    """Golden rate of the base model it was compared with."""
    published_rate: Decimal | None = None
    """Golden rate of the version last published."""
    live_verdict: VerdictState | None = None
    """What the gate said of its target when it was last judged on its own. None where there is no target."""
    records: Annotated[list[Record], Field(max_length=MAX_RECORDS)] = []
    """Judged versions, newest first. The newest published one of each listed URI is always kept."""
    records_config_map: Annotated[str | None, Field(max_length=63)] = None
    """The ConfigMap with these records in full: the outcome of each case, to compare versions case by case,
    and all URIs. None while nothing was judged."""

    baselines: Annotated[list[RecordedBaseline], Field(max_length=MAX_BASELINES)] = []
    """Cached results of base models that jobs with this gate measured or used, of the newest jobs first. A
    pod measures again what is not listed here or in the status of its own job."""

    def to_wire(self) -> dict[str, Any]:
        """JSON form without empty parts."""
        return {k: v for k, v in super().to_wire().items() if v not in ({}, [], "")}
