"""The comparison of training inputs with production inputs, for the section about data."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import AliasPath, BaseModel, Field, ValidationError

from tunegate_api.v1alpha2.data_checks import check_setting
from tunegate_trainer.report.collect import Collected

logger = logging.getLogger(__name__)

CHECK = "distribution_shift"
"""The name of the check that compares the inputs."""


class Percentiles(BaseModel):
    """Lengths of inputs in tokens."""

    low: float = Field(alias="5")
    median: float = Field(alias="50")
    high: float = Field(alias="95")


class UnknownWords(BaseModel):
    """Words that do not occur in training inputs. Every occurrence of a word counts."""

    production: float
    """Their share of the words of production inputs."""
    between_training_halves: float
    """The same share between two halves of the training inputs."""
    most_frequent: list[str]


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


class ProductionMatch(BaseModel):
    """How well the training inputs match the production inputs: the entry ``distribution`` of
    data/report.json, with the result of its check."""

    result: str
    """``Passed`` if the AUC does not exceed its limit, and otherwise ``Refused`` or ``Warned``."""
    limit: float
    """The maximum of the lower bound of the interval."""
    auc: float
    interval: tuple[float, float]
    """The 95 % confidence interval of the AUC."""
    training_inputs: int
    production_inputs: int
    training_has_more: list[str]
    production_has_more: list[str]
    training: Percentiles = Field(validation_alias=AliasPath("lengths", "percentiles", "training"))
    production: Percentiles = Field(validation_alias=AliasPath("lengths", "percentiles", "production"))
    training_counts: list[int] = Field(validation_alias=AliasPath("lengths", "training"))
    production_counts: list[int] = Field(validation_alias=AliasPath("lengths", "production"))
    bin_edges: list[float] = Field(validation_alias=AliasPath("lengths", "bin_edges"))
    """The edges of the bins of both histograms. The last bin also has all longer inputs."""
    longer: float = Field(validation_alias=AliasPath("lengths", "longer_than_training"))
    """The share of production inputs that are longer than every training input."""
    unknown: UnknownWords = Field(validation_alias="unknown_words")

    @property
    def sides(self) -> tuple[Side, Side]:
        """The training inputs and the production inputs."""
        return (
            Side(
                "training inputs",
                self.training_inputs,
                self.training,
                self.training_counts,
                self.training_has_more,
            ),
            Side(
                "production inputs",
                self.production_inputs,
                self.production,
                self.production_counts,
                self.production_has_more,
            ),
        )


def production_match(job: Collected) -> ProductionMatch | None:
    """Return the comparison in data/report.json. None if the inputs were not compared."""
    entry = job.notes.distribution
    if not entry:
        return None
    limit = check_setting(job.request.spec.data.checks, "Distribution").limit
    result = next((note.result for note in job.notes.checks if note.check == CHECK), "Warned")
    try:
        found = ProductionMatch.model_validate({**entry, "result": result, "limit": limit})
    except ValidationError as error:
        logger.warning("the comparison with production inputs is left out of the report: %s", error)
        return None
    return found if found.interval[0] > limit else found.model_copy(update={"result": "Passed"})
