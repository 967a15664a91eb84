"""Bars of golden sets, by the numbers that tests and measurements calculate with."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from tunegate_api.contract.bar import final_bar
from tunegate_api.v1alpha1.evalgate import Thresholds
from tunegate_api.verdict.allowed_failures import Limit
from tunegate_api.verdict.bar import Bar
from tunegate_api.verdict.outcomes import DropPolicy


def golden_bar(
    *,
    max_new_failures: Limit = None,
    policy: DropPolicy = DropPolicy.POINTS,
    confirm: bool = True,
    must_pass: Sequence[str] = (),
    advisory: Sequence[str] = (),
    required_tags: Sequence[str] = (),
    sealed: Fraction | None = None,
    **numbers: Fraction | None,
) -> Bar:
    """Return the bar of a golden set. ``numbers`` are the other fields of :class:`Thresholds`, which may have
    values that no decimal has. They are not validated."""
    fields: dict[str, Any] = {
        **{name: str(number) for name, number in numbers.items() if number is not None},
        "max_new_failures": _text(max_new_failures),
        "policy": str(policy),
        "on_regression": "Confirm" if confirm else "Immediate",
        "must_pass": [*must_pass],
        "advisory": [*advisory],
        "required_tags": [*required_tags],
    }
    thresholds = Thresholds.model_construct(None, **fields)
    return replace(final_bar(thresholds), sealed=sealed)


def _text(limit: Limit) -> str | None:
    if limit is None:
        return None
    return f"{100 * limit}%" if isinstance(limit, Fraction) else str(limit)
