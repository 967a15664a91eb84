"""The status of an EvalGate: the set it judges by, and the record of the versions it judged."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from tunegate_api.meta import Condition, Decimal, Sha256, StatusModel, Time
from tunegate_api.verdict import VerdictState

MAX_RECORDS = 20
"""Judged versions that status remembers, published and not."""


class GateReason(StrEnum):
    """Why an EvalGate is ready or not."""

    GOLDEN_READ = "GoldenRead"
    CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound"
    DIGEST_MISMATCH = "DigestMismatch"
    BAD_GOLDEN = "BadGolden"
    INVALID_SPEC = "InvalidSpec"


class Record(StatusModel):
    """One final model that this gate judged."""

    job: str
    job_uid: str
    step: int
    model_digest: Sha256
    golden_sha256: Sha256
    """Records compare case by case where these are equal."""
    passed: int
    total: int
    base_passed: int | None = None
    """Golden cases that the base model passed, of the same total."""
    outcomes: Annotated[str, Field(max_length=1000)] = ""
    """One letter a case in the order of the set: p passed, f failed, t truncated, e error."""
    verdict: VerdictState
    published_uri: str | None = None
    """The URI of the job's `publish` that this version went to; none when it was not published."""
    time: Time


class EvalGateStatus(StatusModel):
    observed_generation: int | None = None
    conditions: Annotated[list[Condition], Field(max_length=8)] = []
    cases: int | None = None
    """Cases in the golden set."""
    digest: Sha256 | None = None
    """The digest of the golden set as it was read."""
    last: Annotated[str, Field(max_length=128)] | None = None
    """The last judged model: job/step."""
    last_verdict: VerdictState | None = None
    pass_rate: Decimal | None = None
    """Golden rate of the last judged model."""
    base_rate: Decimal | None = None
    """Golden rate of the base model it was compared with."""
    published_rate: Decimal | None = None
    """Golden rate of the version last published."""
    records: Annotated[list[Record], Field(max_length=MAX_RECORDS)] = []
    """Judged versions, newest first. The newest published one of each URI is always kept."""
