"""Each committed data set has one known fault, and the checks of a job find this fault and no other."""

from collections import Counter
from pathlib import Path

import pytest
import yaml

from support.checked_files import checked_files
from support.fault_sets import FOLDER
from tunegate_trainer.checks import SETTINGS

SETS = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())
COUNTED = {*SETS} - {"distribution", "few_rows", "pairs", "pairs_length_bias"}
"""The sets whose findings count the affected rows."""
UNSET = "distribution_shift"
"""The check that warns about every set without a production sample."""


@pytest.mark.parametrize("name", SETS)
def test_checks_find_the_fault_of_the_set_and_no_other(name: str, tmp_path: Path) -> None:
    expected = yaml.safe_load((FOLDER / name / "expected.yaml").read_text())
    files = {path.name: path.read_text() for path in (FOLDER / name).glob("*.jsonl")}
    found, _ = checked_files(files, tmp_path)
    faults: Counter[str] = Counter()
    for one in found.results:
        if one.result in ("Warned", "Refused") and (one.name != UNSET or name == "distribution"):
            faults[SETTINGS.get(one.name, one.name)] += one.count or 0
    assert faults.keys() == {expected["check"]}, found.findings
    if name in COUNTED:
        assert faults.total() == expected["rows"]
    refused = found.failure is not None
    assert refused == (
        expected["check"] in ("bad_rows", "mixed_templates", "distribution", "few_rows", "leakage")
    )
