"""What ``tunegate golden lint`` finds in a golden set."""

from typing import Literal

from tunegate_api.meta import ApiModel


class GoldenFinding(ApiModel):
    """A weakness of a golden set."""

    check: Literal["Unpassable", "Unfailable", "Duplicates", "Tags"]
    """What was checked."""
    severity: Literal["Error", "Warning"]
    """Error: no model can pass these cases."""
    message: str
    """What was found."""
    cases: list[str] = []
    """Ids of the cases."""
    remedy: str
    """What to do."""


class LintedGolden(ApiModel):
    """The result for a golden set that can be parsed."""

    cases: int
    """Number of cases."""
    groups: list[int] = []
    """The number of each case's group. Empty if no two cases are in one group."""
    untried: list[str] = []
    """Ids of cases whose expectations were not tried, because only a model's tokenizer or a package in the
    trainer image can evaluate them."""
    findings: list[GoldenFinding] = []
    """The weaknesses, errors first."""
