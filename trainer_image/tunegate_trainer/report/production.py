"""The comparison of training inputs with production inputs, for the section about data."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, Field, ValidationError

from tunegate_api.v1alpha1.data_checks import check_setting
from tunegate_trainer.report.collect import Collected

logger = logging.getLogger(__name__)

CHECK = "distribution_shift"
"""The name of the check that compares the inputs."""


class Percentiles(BaseModel):
    """Lengths of inputs in tokens."""

    low: float = Field(alias="5")
    median: float = Field(alias="50")
    high: float = Field(alias="95")


class _OfSides(BaseModel):
    training: Percentiles
    production: Percentiles


class _Lengths(BaseModel):
    percentiles: _OfSides
    longer_than_training: float
    bin_edges: list[float]
    training: list[int]
    production: list[int]


class UnknownWords(BaseModel):
    """Words that do not occur in training inputs. Every occurrence of a word counts."""

    production: float
    """Their share of the words of production inputs."""
    between_training_halves: float
    """The same share between two halves of the training inputs."""
    most_frequent: list[str]


class _Distribution(BaseModel):
    """The entry ``distribution`` of data/report.json."""

    training_inputs: int
    production_inputs: int
    auc: float
    interval: tuple[float, float]
    training_has_more: list[str]
    production_has_more: list[str]
    lengths: _Lengths
    unknown_words: UnknownWords


@dataclass(frozen=True)
class Side:
    """The training inputs or the production inputs."""

    name: str
    inputs: int
    """The number of compared inputs."""
    lengths: Percentiles
    counts: Sequence[int]
    """The number of inputs in each bin of the histogram of their lengths."""
    has_more: Sequence[str]
    """Words in double quotes, and properties such as ``line breaks``, that this side has more of. What
    distinguishes the sides most is first."""


@dataclass(frozen=True)
class ProductionMatch:
    """How well the training inputs match the production inputs."""

    auc_result: str
    """``Passed`` if the AUC does not exceed its limit, and otherwise ``Refused`` or ``Warned``."""
    auc: float
    interval: tuple[float, float]
    """The 95 % confidence interval of the AUC."""
    limit: float
    """The maximum of the lower bound of this interval."""
    sides: tuple[Side, Side]
    """Training inputs and production inputs."""
    bin_edges: Sequence[float]
    """The edges of the bins of both histograms. The last bin also has all longer inputs."""
    longer: float
    """The share of production inputs that are longer than every training input."""
    unknown: UnknownWords


def production_match(job: Collected) -> ProductionMatch | None:
    """Return the comparison in data/report.json. None if the inputs were not compared."""
    if not job.notes.distribution:
        return None
    try:
        found = _Distribution.model_validate(job.notes.distribution)
    except ValidationError as error:
        logger.warning("the comparison with production inputs is left out of the report: %s", error)
        return None
    lengths, percentiles = found.lengths, found.lengths.percentiles
    limit = check_setting(job.request.spec.data.checks, "Distribution").limit
    result = next((note.result for note in job.notes.findings if note.check == CHECK), "Warned")
    return ProductionMatch(
        auc_result=result if found.interval[0] > limit else "Passed",
        auc=found.auc,
        interval=found.interval,
        limit=float(limit),
        sides=(
            Side(
                name="training inputs",
                inputs=found.training_inputs,
                lengths=percentiles.training,
                counts=lengths.training,
                has_more=found.training_has_more,
            ),
            Side(
                name="production inputs",
                inputs=found.production_inputs,
                lengths=percentiles.production,
                counts=lengths.production,
                has_more=found.production_has_more,
            ),
        ),
        bin_edges=lengths.bin_edges,
        longer=lengths.longer_than_training,
        unknown=found.unknown_words,
    )
