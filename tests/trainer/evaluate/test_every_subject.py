"""Every type in ``compareWith`` can be measured and judged."""

from pathlib import Path
from typing import get_args

import pytest
import torch

from support.tiny_model import make_tokenizer
from support.trainer_root import TrainerRoot, gate_spec
from tunegate_api.contract.process import Role
from tunegate_api.contract.request import GateRequest
from tunegate_api.contract.results import Evaluation, Subject
from tunegate_api.judging.compared import COMPARED
from tunegate_api.v1alpha1.compared import ComparedType
from tunegate_trainer.evaluate.subjects import SUBJECTS, measure_subjects
from tunegate_trainer.evaluate.subjects.setting import SubjectAnswers, SubjectSetting


def test_every_type_is_measured_and_judged():
    types = {*get_args(ComparedType)}
    assert SUBJECTS.keys() == types
    assert COMPARED.keys() == types


@pytest.mark.parametrize("named", [[], ["BaseModel"], ["LastPublished", "BaseModel"]])
def test_only_types_that_gates_name_are_measured(tmp_path: Path, named: list[str]) -> None:
    gates = {"orders": gate_spec(compareWith=[{"type": each} for each in named])}
    root = TrainerRoot(tmp_path, gates=gates)
    root.write_request()
    asked: list[str] = []

    def measure(_: SubjectSetting, gates: list[GateRequest]) -> SubjectAnswers:
        asked.extend(gate.name for gate in gates)
        return SubjectAnswers(Evaluation(subject=Subject.VERSION, stage="sft", step=0, outcomes={}))

    setting = SubjectSetting(
        root.context(Role.GATE),
        "sft",
        make_tokenizer(),
        [],
        torch.device("cpu"),
        None,
        sources=[],
        outputs=tmp_path,
        report=lambda _: None,
    )
    answers = measure_subjects(setting, dict.fromkeys(("BaseModel", "LastPublished"), measure))
    assert answers.by_type.keys() == {*named}
    assert asked == ["orders"] * len(named)
    assert len(answers.evaluations) == len(named)
