"""The subjects that the final model is compared with, one function for each type in ``compareWith``.
:data:`SUBJECTS` is their table.

To add a type, write such a function, and add a line to the table, and one to ``COMPARED`` in
:mod:`tunegate_api.judging.compared`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tunegate_api.contract.request import GateRequest
from tunegate_api.contract.results import Evaluation
from tunegate_api.v1alpha1.compared import ComparedType
from tunegate_trainer.evaluate.subjects.endpoint import ask_endpoints
from tunegate_trainer.evaluate.subjects.last_published import judge_last_published
from tunegate_trainer.evaluate.subjects.pinned_version import judge_pinned_versions
from tunegate_trainer.evaluate.subjects.setting import SubjectAnswers, SubjectSetting

MeasureSubject = Callable[[SubjectSetting, Sequence[GateRequest]], SubjectAnswers]


def _base_model(_: SubjectSetting, __: Sequence[GateRequest]) -> SubjectAnswers:
    """Return no new answers. The base model is measured before the artifact, which is loaded on top of it,
    and also on safety sets and held-out rows."""
    return SubjectAnswers()


SUBJECTS: Mapping[ComparedType, MeasureSubject] = {
    "BaseModel": _base_model,
    "Version": judge_pinned_versions,
    "Endpoint": ask_endpoints,
    "LastPublished": judge_last_published,
}
"""For each type, the function that measures its subjects for the gates that compare with it. They are called
in this order. The publish targets are read last, because other jobs may publish in the meantime."""


@dataclass(frozen=True)
class AllAnswers:
    """What all subjects answered."""

    by_type: Mapping[ComparedType, SubjectAnswers]

    @property
    def evaluations(self) -> list[Evaluation]:
        return [each.evaluation for each in self.by_type.values() if each.evaluation]

    def of(self, type_: ComparedType) -> SubjectAnswers:
        """Return the answers of a type, which are empty if no gate compares with it."""
        return self.by_type.get(type_, SubjectAnswers())


def measure_subjects(
    setting: SubjectSetting, subjects: Mapping[ComparedType, MeasureSubject] = SUBJECTS
) -> AllAnswers:
    """Return what the subjects answered that the final gates of a job compare with."""
    found: dict[ComparedType, SubjectAnswers] = {}
    for type_, measure in subjects.items():
        gates = [g for g in setting.context.request.final_gates if type_ in g.spec.compared_types]
        if gates:
            found[type_] = measure(setting, gates)
            setting.check()
    return AllAnswers(found)
