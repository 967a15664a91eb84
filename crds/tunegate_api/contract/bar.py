"""Compile the spec of a gate to its bar: the rules that a model must meet, with exact numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from tunegate_api.meta import exact
from tunegate_api.v1alpha1.count_or_share import count_or_share
from tunegate_api.v1alpha1.evalgate import Golden, Thresholds
from tunegate_api.v1alpha1.safety import Safety
from tunegate_api.verdict.bar import CRITICAL, Bar, SafetyBar, safety_bar
from tunegate_api.verdict.core import Rule
from tunegate_api.verdict.outcomes import DropPolicy
from tunegate_api.verdict.rules.drop import Drop
from tunegate_api.verdict.rules.minimum import Minimum
from tunegate_api.verdict.rules.new_failures import NewFailures
from tunegate_api.verdict.rules.relative_drop import RelativeDrop


def _minimum(of: Thresholds) -> Sequence[Rule]:
    return [] if of.min_pass_rate is None else [Minimum(exact(of.min_pass_rate))]


def _must_pass(of: Thresholds) -> Sequence[Rule]:
    return [Minimum(Fraction(1), CRITICAL, f"mustPass {name}", cases=(name,)) for name in of.must_pass]


def _drop(of: Thresholds) -> Sequence[Rule]:
    return [Drop(exact(of.max_drop_points), policy=DropPolicy(of.policy))]


def _relative_drop(of: Thresholds) -> Sequence[Rule]:
    return [] if of.max_relative_drop is None else [RelativeDrop(exact(of.max_relative_drop))]


def _new_failures(of: Thresholds) -> Sequence[Rule]:
    given = of.max_new_failures
    return [NewFailures(None if given is None else count_or_share(given))]


GOLDEN_RULES: Mapping[str, Callable[[Thresholds], Sequence[Rule]]] = {
    "minPassRate": _minimum,
    CRITICAL: _must_pass,
    "maxDropPoints": _drop,
    "maxRelativeDrop": _relative_drop,
    "maxNewFailures": _new_failures,
}
"""The rules of a golden set, in the order of their findings. For each name of a rule, which is the field of
``thresholds`` with its limit, the function that returns the rules that the thresholds ask for."""


def final_bar(thresholds: Thresholds) -> Bar:
    """Return the bar of the final model on a golden set."""
    between = exact(thresholds.max_drop_between_checkpoints)
    return Bar(
        rules=tuple(rule for make in GOLDEN_RULES.values() for rule in make(thresholds)),
        between_checkpoints=Drop(between, name="maxDropBetweenCheckpoints"),
        confirm=thresholds.on_regression == "Confirm",
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
