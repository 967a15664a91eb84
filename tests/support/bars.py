"""Bars of golden sets, by the numbers that tests and measurements calculate with."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from tunegate_api.contract.bar import final_bar
from tunegate_api.v1alpha2.case_source import CaseSource
from tunegate_api.v1alpha2.sets import GateSet, SetCheckpoints, SetRule
from tunegate_api.verdict.allowed_failures import Limit
from tunegate_api.verdict.bar import Bar
from tunegate_api.verdict.outcomes import DropPolicy


def golden_bar(
    *,
    min_pass_rate: Fraction | None = None,
    policy: DropPolicy = DropPolicy.POINTS,
    max_drop_points: Fraction = Fraction(5),
    max_relative_drop: Fraction | None = None,
    max_new_failures: Limit = None,
    max_drop_between_checkpoints: Fraction = Fraction(5),
    confirm: bool = True,
    must_pass: Sequence[str] = (),
    advisory: Sequence[str] = (),
    required_tags: Sequence[str] = (),
    sealed: Fraction | None = None,
) -> Bar:
    """Return the bar of a golden set. Rates and the relative drop are from 0 to 1, other drops are in
    percentage points. The numbers are not validated, so they may be some that no percentage has."""
    overall = SetRule.model_construct(
        None,
        name="all",
        cases=[],
        min_pass_rate=_percent(min_pass_rate),
        fail_at_drop=f"{max_drop_points}%",
        test="NonInferior" if policy is DropPolicy.NON_INFERIOR else "Measured",
        max_relative_drop=_percent(max_relative_drop),
        max_new_failures=max_new_failures
        if isinstance(max_new_failures, int)
        else _percent(max_new_failures),
    )
    critical = [SetRule(name="critical", cases=[each], min_pass_rate="100%") for each in must_pass]
    needed = [SetRule(name="needed", cases=[*required_tags])] if required_tags else []
    checkpoints = SetCheckpoints.model_construct(
        None,
        on_regression="Confirm" if confirm else "Immediate",
        fail_at_drop=f"{max_drop_between_checkpoints}%",
    )
    golden = GateSet.model_construct(
        None,
        name="golden",
        kind="Golden",
        source=CaseSource(),
        rules=[overall, *critical, *needed],
        checkpoints=checkpoints,
        advisory=[*advisory],
        sealed=None,
    )
    return replace(final_bar(golden), sealed=sealed)


def _percent(share: Fraction | None) -> str | None:
    return None if share is None else f"{100 * share}%"
