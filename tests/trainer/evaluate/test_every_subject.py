"""Every type in ``compareWith`` can be measured and judged, also one that is added to the tables."""

from collections.abc import Sequence
from functools import partial
from typing import get_args

import pytest
import torch

from support.tiny_model import make_tokenizer
from support.trainer_root import TrainerRoot, gate_spec, golden_cases
from tunegate_api.contract.process import Role
from tunegate_api.contract.request import GateRequest
from tunegate_api.contract.results import Evaluation, Subject, golden_set
from tunegate_api.judging.compared import COMPARED, ComparedResults
from tunegate_api.judging.judgement import judge_final
from tunegate_api.v1alpha2.compared import ComparedSubject, ComparedType
from tunegate_api.verdict.outcomes import PASS, Baseline
from tunegate_trainer.evaluate.sets import GOLDEN
from tunegate_trainer.evaluate.subjects import SUBJECTS, measure_subjects
from tunegate_trainer.evaluate.subjects.setting import SubjectAnswers, SubjectSetting
from tunegate_trainer.roles import train as train_role

STEP = 20


def test_every_type_is_measured_and_judged():
    types = {*get_args(ComparedType)}
    assert {"BaseModel", *SUBJECTS} == types
    assert COMPARED.keys() == types


@pytest.mark.parametrize("named", [[], ["BaseModel"], ["LastPublished", "Version", "BaseModel"]])
def test_only_types_that_gates_name_are_measured(tmp_path, monkeypatch, named):
    root = TrainerRoot(tmp_path, gates={"orders": gate_spec(compareWith=[{"type": each} for each in named])})
    root.write_request()
    asked = []

    def measure(type_: str, _: SubjectSetting, gates: Sequence[GateRequest]) -> SubjectAnswers:
        asked.extend((type_, gate.name) for gate in gates)
        return SubjectAnswers([Evaluation(subject=Subject.VERSION, stage="sft", step=0, outcomes={})])

    for type_ in SUBJECTS:
        monkeypatch.setitem(SUBJECTS, type_, partial(measure, type_))
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
    answers = measure_subjects(setting)
    assert asked == [(type_, "orders") for type_ in SUBJECTS if type_ in named]
    assert len(answers.evaluations) == len(asked)


def passing_all(setting: SubjectSetting, gates: Sequence[GateRequest]) -> SubjectAnswers:
    """Return the outcomes of a model that only these tests have: it passes every case."""
    cases = {each.names[GOLDEN]: len(each.cases) for each in setting.golden}
    outcomes = {name: PASS * cases[name] for name in (golden_set(gate.name) for gate in gates)}
    evaluation = Evaluation(subject=Subject.VERSION, stage=setting.stage, step=0, outcomes=outcomes)
    return SubjectAnswers([evaluation])


def of_that_model(known: ComparedResults, _: ComparedSubject) -> Baseline:
    (measured,) = known.results.find(Subject.VERSION)
    outcomes = measured.outcomes[golden_set(known.gate.name)]
    return Baseline(known.gate.golden_sha256, outcomes, version="passing all")


@pytest.mark.model
def test_subject_added_to_the_tables_decides_the_verdict(make_root, judge, monkeypatch):
    compared = [{"type": "Version"}]
    learned = gate_spec(compareWith=compared)
    other = gate_spec(golden_cases(expect="no"), compareWith=compared, enforcement="DryRun")
    root = make_root(checkpoint_steps=(STEP,), gates={"learned": learned, "other": other})
    train_role.run(root.context())
    monkeypatch.setitem(SUBJECTS, "Version", passing_all)
    monkeypatch.setitem(COMPARED, "Version", of_that_model)
    (of_learned, of_other, _) = judge(root, STEP).verdicts
    assert (of_learned.state, of_other.state) == ("Passed", "Failed")
    assert "golden 20/20, Version (passing all) 20/20: +0.0 points" in of_learned.message
    assert "golden 0/20, Version (passing all) 20/20: -100.0 points" in of_other.message
    judged = judge_final(root.context().request, root.report(Role.GATE).results)
    assert judged is not None
    assert [gate.verdict.message for gate in judged.gates] == [of_learned.message, of_other.message]
