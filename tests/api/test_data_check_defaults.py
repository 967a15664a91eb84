"""The defaults of data checks in descriptions and documentation are those that jobs use."""

import re
from fractions import Fraction
from pathlib import Path

import pytest
import yaml

from tunegate_api.v1alpha1.data_checks import (
    CHECK_DEFAULTS,
    DataChecks,
    DistributionCheck,
    check_setting,
)

PAGE = Path(__file__).parents[2] / "docs" / "data-checks.md"


def description(model: type, field: str) -> str:
    return " ".join(model.model_fields[field].description.split())


@pytest.mark.parametrize("field", [field for field in DataChecks.model_fields if field != "distribution"])
def test_description_of_a_check_states_its_defaults(field):
    default = CHECK_DEFAULTS[field]
    ((policy, limit),) = re.findall(
        r"Defaults to (\w+) with maxShare ([\d.]*\d)\.", description(DataChecks, field)
    )
    assert (policy, Fraction(limit)) == (default.policy, default.limit)


def test_descriptions_of_the_distribution_check_state_its_defaults():
    default = CHECK_DEFAULTS["distribution"]
    assert f"{default.policy}, the default," in description(DistributionCheck, "policy")
    assert description(DistributionCheck, "max_auc").endswith(f"Defaults to {float(default.limit):g}.")


def test_defaults_in_the_page_about_data_checks_are_those_of_the_code():
    blocks = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    shown = [block for block in blocks if "# the defaults" in block]
    given = [DataChecks.model_validate(yaml.safe_load(block)["spec"]["data"]["checks"]) for block in shown]
    found = {field: checks for checks in given for field in checks.model_fields_set}
    assert {"secrets", "pairs", "distribution"} <= found.keys()
    for field, checks in found.items():
        assert check_setting(checks, field) == CHECK_DEFAULTS[field]
        assert len(getattr(checks, field).model_fields_set) == 2, "the policy and the limit are shown"
