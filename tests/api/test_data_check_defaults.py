"""The defaults of data checks in descriptions and documentation are those that jobs use."""

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from tunegate_api.v1alpha2.data_checks import CHECK_DEFAULTS, CheckName, DataCheck, check_setting
from tunegate_api.v1alpha2.shares import share

PAGE = Path(__file__).parents[2] / "docs" / "data-checks.md"


@pytest.mark.parametrize("name", get_args(CheckName))
def test_description_of_a_check_states_its_defaults(name):
    default = CHECK_DEFAULTS[name]
    text = " ".join((DataCheck.model_fields["name"].description or "").split())
    ((policy, limit),) = re.findall(rf"\b{name} \((\w+), ([\d.]+%)\): ", text)
    assert (policy, share(limit)) == (default.policy, default.limit)


def test_data_check_defaults_in_docs_equal_those_in_code():
    blocks = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    shown = [yaml.safe_load(block)["spec"]["data"]["checks"] for block in blocks if "# the defaults" in block]
    found = [DataCheck.model_validate(check) for checks in shown for check in checks]
    assert {"Secrets", "Pairs", "Distribution"} <= {check.name for check in found}
    for check in found:
        assert check_setting([check], check.name) == CHECK_DEFAULTS[check.name]
        assert check.model_fields_set == {"name", "policy", "max"}, "the policy and the limit are shown"
