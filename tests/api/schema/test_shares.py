"""Fields with a share, or with a number or a share: what is read, and what is advised instead."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.manifests import changed, evalgate, finetunejob, problem_messages
from support.structural_rules import fields
from tunegate_api.schema.crd import crds
from tunegate_api.v1alpha2.sets import SetRule
from tunegate_api.v1alpha2.shares import INT_OR_STRING, PERCENT_PATTERN, count_or_share, share

PERCENTAGES = st.from_regex(PERCENT_PATTERN.replace("$", r"\Z"))


def limits(**given: int | str) -> SetRule:
    return SetRule.model_validate({"name": "all", **given})


@pytest.mark.parametrize(
    ("percent", "value"),
    [("0%", Fraction(0)), ("2.5%", Fraction(1, 40)), ("33.333333333%", Fraction(33333333333, 10**11))],
)
def test_percentage_is_read_exactly(percent: str, value: Fraction) -> None:
    assert share(percent) == value


def test_decimal_is_never_read_as_a_share() -> None:
    with pytest.raises(ValueError, match=r"0\.14 is not a percentage"):
        share("0.14")


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ("0.14", 'is "0.14": must be a percentage: write "14%"'),
        (0.14, 'is 0.14: must be a percentage: write "14%"'),
        ("2.5e-2", 'is "2.5e-2": must be a percentage: write "2.5%"'),
        ("0", 'is "0": must be a percentage: write "0%"'),
        (14, 'is 14: must be a percentage: write "14%"'),
        (1, 'is 1: must be a percentage: write "100%" or "1%"'),
        ("250", 'is "250": must be a percentage, such as "14%" instead of "0.14"'),
        ("-0.5", 'is "-0.5": must be a percentage, such as "14%" instead of "0.14"'),
        ("14 %", 'is "14 %": must be a percentage from 0% to 100%, such as "14%" instead of "0.14"'),
        (True, 'must be text: write "true", with the quotes'),
    ],
)
def test_other_form_of_a_share_is_refused_with_the_percentage(value: Any, advice: str) -> None:
    job = changed(finetunejob(), {"spec.data.maxTooLong": value})
    assert problem_messages(job) == [f"spec.data.maxTooLong: {advice}"]


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ("0.05", ': write "5%"'),
        (0.05, ': write "5%"'),
        ("3", ": write 3, without quotes"),
        (-1, ', such as "14%" instead of "0.14"'),
        (True, ', such as "14%" instead of "0.14"'),
        ("100.1%", ', such as "14%" instead of "0.14"'),
    ],
)
def test_other_form_of_a_limit_in_cases_is_refused(value: Any, advice: str) -> None:
    gate = changed(evalgate(), {"spec.sets.0.rules.0.maxNewFailures": value})
    (problem,) = problem_messages(gate)
    assert problem.endswith(f"must be a number of cases from 0, or a percentage from 0% to 100%{advice}")


@pytest.mark.parametrize(
    ("limit", "value"), [(0, 0), (3, 3), ("0%", Fraction(0)), ("0.5%", Fraction(1, 200))]
)
def test_number_is_a_count_and_a_percentage_a_share(limit: int | str, value: int | Fraction) -> None:
    assert limits(maxNewFailures=limit).max_new_failures == limit
    assert (type(count_or_share(limit)), count_or_share(limit)) == (type(value), value)


@given(percent=PERCENTAGES)
def test_limit_above_zero_allows_every_share_but_zero(percent: str) -> None:
    if share(percent):
        assert limits(failAtDrop=percent).fail_at_drop == percent
    else:
        with pytest.raises(ValueError, match="above 0%"):
            limits(failAtDrop=percent)


def test_numbers_or_shares_have_no_rule_of_their_own() -> None:
    """Before Kubernetes 1.34, an API server assumes that such a text is as long as a request. In a list, each
    rule of the field then exceeds the limit for the cost of a CRD."""
    found = [
        field
        for crd in crds().values()
        for _, field in fields(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
        if field.get(INT_OR_STRING)
    ]
    assert len(found) == 3
    assert not [field for field in found if "x-kubernetes-validations" in field]
