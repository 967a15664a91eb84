"""The subjects that the final model is compared with, one function for each type in ``compareWith``.
:data:`SUBJECTS` is their table.

To add a type, write such a function, and add a line to the table, and one to ``COMPARED`` in
:mod:`tunegate_api.judging.compared`.
"""

from collections.abc import Callable, Mapping, Sequence

from tunegate_api.contract.request import GateRequest
from tunegate_api.v1alpha2.compared import ComparedType
from tunegate_trainer.evaluate.subjects.endpoint import ask_endpoints
from tunegate_trainer.evaluate.subjects.last_published import judge_last_published
from tunegate_trainer.evaluate.subjects.pinned_version import judge_pinned_versions
from tunegate_trainer.evaluate.subjects.setting import SubjectAnswers, SubjectSetting

MeasureSubject = Callable[[SubjectSetting, Sequence[GateRequest]], SubjectAnswers]

SUBJECTS: Mapping[ComparedType, MeasureSubject] = {
    "Version": judge_pinned_versions,
    "Endpoint": ask_endpoints,
    "LastPublished": judge_last_published,
}
"""For each type, the function that measures its subjects for the gates that compare with it. They are called
in this order. The publish targets are read last, because other jobs may publish in the meantime. The type
BaseModel is missing: the base model is measured before the artifact, which is loaded on top of it, and also
on safety sets and held-out rows."""


def measure_subjects(setting: SubjectSetting) -> SubjectAnswers:
    """Return what the subjects answered that the final gates of a job compare with."""
    found = SubjectAnswers()
    for type_, measure in SUBJECTS.items():
        gates = [g for g in setting.context.request.final_gates if type_ in g.spec.compared_types]
        if gates:
            found |= measure(setting, gates)
        setting.check()
    return found
