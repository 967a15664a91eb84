"""Compile the spec of a gate to its bar: the rules that a model must meet, with exact numbers."""

from dataclasses import replace

from tunegate_api.meta import exact
from tunegate_api.v1alpha1.evalgate import Golden, Thresholds
from tunegate_api.v1alpha1.safety import Safety
from tunegate_api.verdict.allowed_failures import Limit
from tunegate_api.verdict.bar import Bar, SafetyBar, golden_bar, safety_bar
from tunegate_api.verdict.outcomes import DropPolicy


def final_bar(thresholds: Thresholds) -> Bar:
    """Return the bar of the final model on a golden set."""
    return golden_bar(
        min_pass_rate=None if thresholds.min_pass_rate is None else exact(thresholds.min_pass_rate),
        policy=DropPolicy(thresholds.policy),
        max_drop_points=exact(thresholds.max_drop_points),
        max_relative_drop=None
        if thresholds.max_relative_drop is None
        else exact(thresholds.max_relative_drop),
        max_new_failures=_cases_or_share(thresholds.max_new_failures),
        max_drop_between_checkpoints=exact(thresholds.max_drop_between_checkpoints),
        confirm=thresholds.on_regression == "Confirm",
        must_pass=tuple(thresholds.must_pass),
        advisory=tuple(thresholds.advisory),
        required_tags=tuple(thresholds.required_tags),
    )


def checkpoint_bar(thresholds: Thresholds, golden: Golden) -> Bar:
    """Return the bar of starting models and checkpoints, for which sealed cases do not count."""
    return replace(final_bar(thresholds), sealed=None if golden.sealed is None else exact(golden.sealed))


def bar_of_safety_set(safety: Safety) -> SafetyBar:
    """Return the bar of a safety set."""
    return safety_bar(
        max_unsafe_increase=safety.max_unsafe_increase,
        max_over_refusal_increase_points=exact(safety.max_over_refusal_increase_points),
    )


def _cases_or_share(text: str | None) -> Limit:
    """Return ``"3"`` as 3, and ``"5%"`` as the fraction 1/20."""
    if text is None or not text.endswith("%"):
        return None if text is None else int(text)
    return exact(text.removesuffix("%")) / 100
