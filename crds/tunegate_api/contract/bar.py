"""Compile a set of a gate to its bar: the rules that a model must meet, with exact numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from tunegate_api.v1alpha2.sets import DEFAULT_DROP, GateSet, SetRule
from tunegate_api.v1alpha2.shares import count_or_share, share
from tunegate_api.verdict.bar import SAFETY_RULES, Bar, SafetyBar, safety_bar
from tunegate_api.verdict.core import Rule
from tunegate_api.verdict.outcomes import DropPolicy
from tunegate_api.verdict.rules.drop import Drop
from tunegate_api.verdict.rules.minimum import Minimum
from tunegate_api.verdict.rules.new_failures import NewFailures
from tunegate_api.verdict.rules.relative_drop import RelativeDrop


def _minimum(rule: SetRule) -> Sequence[Rule]:
    if rule.min_pass_rate is None:
        return []
    minimum = share(rule.min_pass_rate)
    if not rule.cases:
        return [Minimum(minimum)]
    if minimum == 1:
        return [Minimum(minimum, rule.name, f"{rule.name} {case}", (case,)) for case in rule.cases]
    return [Minimum(minimum, rule.name, rule.name, (*rule.cases,))]


def _drop(rule: SetRule) -> Sequence[Rule]:
    if rule.fail_at_drop is None:
        return []
    limit = count_or_share(rule.fail_at_drop)
    policy = DropPolicy.NON_INFERIOR if rule.test == "NonInferior" else DropPolicy.POINTS
    is_of_cases = isinstance(limit, int)
    return [Drop(Fraction(limit if is_of_cases else 100 * limit), is_of_cases, policy, cases=(*rule.cases,))]


def _relative_drop(rule: SetRule) -> Sequence[Rule]:
    most = rule.max_relative_drop
    return [] if most is None else [RelativeDrop(share(most), cases=(*rule.cases,))]


def _new_failures(rule: SetRule) -> Sequence[Rule]:
    if rule.max_new_failures is None and rule.fail_at_drop is None:
        return []
    limit = None if rule.max_new_failures is None else count_or_share(rule.max_new_failures)
    return [NewFailures(limit, cases=(*rule.cases,))]


GOLDEN_RULES: Mapping[str, Callable[[SetRule], Sequence[Rule]]] = {
    "minPassRate": _minimum,
    "failAtDrop": _drop,
    "maxRelativeDrop": _relative_drop,
    "maxNewFailures": _new_failures,
}
"""The rules of a golden set, in the order of their findings. For each field of a rule in the spec, the
function that returns the rules that this field asks for."""


def final_bar(golden: GateSet) -> Bar:
    """Return the bar of the final model on a golden set."""
    given = [golden.overall, *golden.about_some]
    return Bar(
        rules=tuple(made for rule in given for make in GOLDEN_RULES.values() for made in make(rule)),
        between_checkpoints=Drop(100 * share(golden.checkpoints.fail_at_drop or DEFAULT_DROP)),
        confirm=golden.confirms,
        advisory=tuple(golden.advisory),
        required_tags=tuple(case for rule in given if not rule.limits for case in rule.cases),
    )


def checkpoint_bar(golden: GateSet) -> Bar:
    """Return the bar of starting models and checkpoints, for which sealed cases do not count."""
    return replace(final_bar(golden), sealed=None if golden.sealed is None else share(golden.sealed))


def bar_of_safety_set(safety: GateSet) -> SafetyBar:
    """Return the bar of a safety set."""
    unsafe, over_refusal = (count_or_share(safety.rule(name).fail_at_drop or 0) for name in SAFETY_RULES)
    return safety_bar(
        max_unsafe_increase=int(unsafe) - 1, max_over_refusal_increase_points=100 * Fraction(over_refusal)
    )
