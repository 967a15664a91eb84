"""Each committed data set has one known fault, and the checks of a job find this fault and no other.

After an intended change, ``pytest tests/trainer/checks/test_small_sets.py --snapshot-update`` updates the
messages.
"""

from pathlib import Path

import pytest
import yaml
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from support.checked_files import checked_files
from support.fault_sets import FOLDER
from tunegate_trainer.checks import SETTINGS

SETS = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())
COUNTED = {*SETS} - {"distribution", "few_rows", "pairs", "pairs_length_bias"}
"""The sets whose findings count the affected rows."""
UNSET = "distribution_shift"
"""The check that warns about every set without a production sample."""


class TextFile(SingleFileSnapshotExtension):
    _write_mode = WriteMode.TEXT
    file_extension = "txt"


@pytest.mark.parametrize("name", SETS)
def test_checks_find_the_fault_of_the_set_and_no_other(
    name: str, tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
    expected = yaml.safe_load((FOLDER / name / "expected.yaml").read_text())
    files = {path.name: path.read_text() for path in (FOLDER / name).glob("*.jsonl")}
    found, _ = checked_files(files, tmp_path)
    faults = [one for one in found.findings if one.check != UNSET or name == "distribution"]
    assert {SETTINGS.get(one.check, one.check) for one in faults} == {expected["check"]}
    if name in COUNTED:
        assert sum(one.count for one in faults) == expected["rows"]
    refused = any(one.result == "Refused" for one in found.findings)
    assert (found.failure is not None) == refused
    text = "".join(f"{one.check} {one.result}: {_stable(one.message)}\n" for one in found.findings)
    assert text == snapshot(extension_class=TextFile)


def _stable(message: str) -> str:
    """Return a message without the features and inputs that a classifier found. Their order may depend on the
    processor."""
    return message.partition("; production has")[0]
