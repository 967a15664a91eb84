"""The outcomes that pods measure and report: the evaluations of a job, and their case sets."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from tunegate_api.contract.published import LastPublished
from tunegate_api.meta import Count, Listed, Mapped, Seconds, Sha256, StatusModel, Time
from tunegate_api.verdict.outcomes import CaseSet


class Subject(StrEnum):
    """Which model an evaluation measures."""

    BASE = "Base"
    """The starting model of the job, measured as a baseline by the final gate."""
    START = "Start"
    """The starting model of a stage, which is step 0."""
    CHECKPOINT = "Checkpoint"
    VERSION = "Version"
    """The versions that EvalGates pin, measured by the final gate."""
    ENDPOINT = "Endpoint"
    """The models that are live now, on the servers that EvalGates name, asked by the final gate."""
    FINAL = "Final"
    """The artifact to publish, loaded in a new process."""


TRAINING_SUBJECTS = (Subject.START, Subject.CHECKPOINT)
"""What training pods evaluate: starting models and checkpoints. The gate pod evaluates all other subjects."""


HeldOutSplit = Literal["dev", "test"]
"""A split of the held-out rows: dev scores checkpoints; test is read once, by the final gate."""


def golden_set(gate: str) -> str:
    """Return the name of a gate's golden set in :class:`Results`."""
    return f"golden/{gate}"


def task_set(split: HeldOutSplit, metric: str) -> str:
    """Return the name of a task metric on a held-out split in :class:`Results`."""
    return f"{split}/{metric}"


class Evaluation(StatusModel):
    """The outcomes of one model or checkpoint on all golden sets and held-out splits."""

    subject: Subject
    stage: str
    """The training stage of the model or checkpoint. For the subjects Base and Final, the last stage."""
    step: Count
    loss: Annotated[float | None, Field(ge=-1e99, le=1e99, allow_inf_nan=False)] = None
    """Training loss at the step ``step``."""
    digest: Sha256 | None = None
    """Digest of the weights. For the subject Final, the digest of all files of the artifact."""
    outcomes: Mapped[str]
    """Maps the name of each set to a string with one letter per case, see
    :mod:`tunegate_api.verdict.outcomes`."""
    counts: Mapped[str] | None = None
    """Maps the name of each set of a count-based metric to a string with one entry per case, see
    :func:`tunegate_api.verdict.counts.counted_metric`."""
    problems: Mapped[str] | None = None
    """Maps the name of each set on which the model could not be measured to the reason."""
    seconds: Seconds = 0.0
    """Duration of the evaluation."""
    time: Time | None = None
    """Time at which the evaluation ended, by the clock of the pod. None for
    pinned versions."""

    @property
    def key(self) -> tuple[str, str, int]:
        return (self.stage, self.subject, self.step)


class PlantedRegression(StatusModel):
    """The outcomes of a model that was made worse on purpose."""

    name: str
    """What was done to the model, such as ``strength 0.75``: 75 % of the change of its weights by training
    was kept."""
    outcomes: str
    """One letter per golden case, see :mod:`tunegate_api.verdict.outcomes`."""


class ErrorRateOutcomes(StatusModel):
    """Repeated evaluations of an artifact on a golden set, and evaluations of models that were made worse on
    purpose. The error rate of a gate is computed from them."""

    golden_sha256: Sha256
    base_digest: Sha256
    """Digest of the base model from which the artifact was trained."""
    scoring: str
    """See :attr:`tunegate_api.v1alpha2.evalgate.EvalGateSpec.scoring`."""
    reference: str
    """The outcomes of the artifact, one letter per case, as the final gate measured them."""
    repeats: Listed[str] = []
    """The outcomes of the same artifact, evaluated again with other batches, at most 20."""
    planted: Listed[PlantedRegression] = []
    """At most 8 regressions."""
    evaluations: Count = 0
    """Number of evaluations of the golden set for which outputs were generated, without that of
    ``reference``."""
    seconds: Seconds = 0.0
    """Duration of these evaluations."""


class GateErrorRates(StatusModel):
    """What ``tunegate gate error-rate`` measured, by the name of the gate."""

    sets: Mapped[CaseSet] = {}
    outcomes: Mapped[ErrorRateOutcomes] = {}
    problems: Mapped[str] = {}
    """Why gates could not be measured."""


class Results(StatusModel):
    """Measured outcomes of a job. Merging is cumulative and idempotent: merging the same results twice
    changes nothing."""

    sets: Mapped[CaseSet] = {}
    evaluations: Listed[Evaluation] = []
    error_rates: Mapped[ErrorRateOutcomes] | None = None
    """Maps the name of a gate to the outcomes that its error rate is computed from. None if none was
    measured."""
    last_published: LastPublished | None = None
    """The published versions that the artifact is compared with. None if the publish targets were not read
    yet, or contain no version."""

    def merged(self, newer: "Results") -> "Results":
        """Return these results merged with the ``newer`` results, which replace measurements of the same
        model. The last reading of the publish targets is kept, even if ``newer`` has an earlier reading."""
        by_key = {e.key: e for e in self.evaluations} | {e.key: e for e in newer.evaluations}
        readings = [found for found in (newer.last_published, self.last_published) if found]
        return Results(
            sets=self.sets | newer.sets,
            evaluations=list(by_key.values()),
            error_rates={**(self.error_rates or {}), **(newer.error_rates or {})} or None,
            last_published=max(readings, key=lambda found: found.reading, default=None),
        )

    def find(self, subject: Subject, stage: str | None = None) -> list[Evaluation]:
        """Return the evaluations of ``subject``, in the order of their steps."""
        found = [e for e in self.evaluations if e.subject is subject and stage in (None, e.stage)]
        return sorted(found, key=lambda e: e.step)
