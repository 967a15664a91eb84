"""Judgements are recorded in every process that Python starts with the recorder on its path."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import judgements

RECORDING = Path(judgements.__file__).parent / "recording"
PROGRAM = """
from fractions import Fraction
from support.bars import golden_bar
from tunegate_api.judging.error_rate import error_rates
from tunegate_api.verdict.outcomes import Baseline, CaseSet
from tunegate_api.verdict.golden import judge_golden
from tunegate_api.contract.results import ErrorRateOutcomes

cases = CaseSet(sha256="a" * 64, ids=[f"case-{n}" for n in range(20)])
rules = golden_bar(min_pass_rate=Fraction(9, 10))
letters = "p" * 19 + "f"
for _ in range(2):
    judge_golden(cases, letters, rules, {"BaseModel": Baseline(cases.sha256, "p" * 20)})
measured = ErrorRateOutcomes(
    golden_sha256="a" * 64, base_digest="b" * 64, scoring="", reference=letters, repeats=[letters]
)
error_rates(cases, rules, measured)
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")
    environment = os.environ | {"PYTHONPATH": str(RECORDING), "TUNEGATE_RECORD_JUDGEMENTS": str(folder)}
    subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True)
    (file,) = folder.glob("*.jsonl")
    return [json.loads(json.loads(line)["seen"]) for line in file.read_text().splitlines()]


def test_judgement_is_recorded_once_without_the_judgements_inside_of_it(recorded):
    assert [each["record"]["kind"] for each in recorded] == ["Golden", "ErrorRate"]


def test_record_has_the_result_that_was_returned(recorded):
    golden = recorded[0]["found"]
    assert golden["findings"] == [["minPassRate", "Passed"], ["BaseModel", "Failed"]]
    assert golden["deltas"] == {"BaseModel": "-5"}
