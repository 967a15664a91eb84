"""Check which reports a pod may send: its own, and those that earlier pods of the job left in the outbox."""

from collections.abc import Mapping
from dataclasses import dataclass

from tunegate_api.contract import Report, Role, Subject
from tunegate_api.v1alpha1.finetunejob_status import MAX_PUBLISHED
from tunegate_operator.names import Step

EVALUATED_SUBJECTS = {
    Role.TRAIN: {Subject.START, Subject.CHECKPOINT},
    Role.GATE: {Subject.BASE, Subject.FINAL},
}
"""The subjects that each role evaluates. Other roles do not evaluate."""


class ForeignReportError(Exception):
    """The pod may report on this job, but may not send this report. The message names the field."""


@dataclass(frozen=True)
class Sender:
    """A pod that sends reports, as described by the labels of its Job."""

    step: Step
    attempt: int
    stages: tuple[str, ...]
    """The stages of the job's spec, in order."""
    latest_attempts: Mapping[Step, int]
    """The latest attempt of each step that has started."""

    def check_report(self, report: Report) -> None:
        """Raise ForeignReportError for a report that this pod may not send.

        A pod also delivers the outbox of earlier pods: reports of earlier attempts at its own step, and of
        earlier steps. A pod of role ``report``, which runs after the last step, may deliver any of them. No
        pod may send a report for a later step.
        """
        steps = [
            Step(Role.DATA),
            *(Step(Role.TRAIN, stage) for stage in self.stages),
            Step(Role.GATE),
            Step(Role.PUBLISH),
        ]
        reported = Step(report.role, report.stage)
        if reported not in steps:
            if report.role is Role.TRAIN:
                raise ForeignReportError(f"stage: {report.stage} is not a stage of this job")
            raise ForeignReportError(f"role: {reported} is not a step of this job")
        if self.step.role is not Role.REPORT and (
            self.step not in steps or steps.index(reported) > steps.index(self.step)
        ):
            raise ForeignReportError(f"role: a {self.step} pod may not send a report for {reported}")
        last = self.attempt if reported == self.step else self.latest_attempts.get(reported, 0)
        if report.attempt < 1:
            raise ForeignReportError(f"attempt: {report.attempt} is less than 1")
        if report.attempt > last:
            higher = f"{report.attempt} is higher than the latest attempt ({last}) of {reported}"
            raise ForeignReportError(f"attempt: {higher}")
        self._check_content(report)

    def _check_content(self, report: Report) -> None:
        """Raise ForeignReportError for content that another role produces."""
        stages = self.stages if report.stage is None else (report.stage,)
        for evaluation in report.results.evaluations:
            if evaluation.subject not in EVALUATED_SUBJECTS.get(report.role, ()):
                raise ForeignReportError(
                    f"results: role {report.role} does not evaluate {evaluation.subject}"
                )
            if evaluation.subject is Subject.START and evaluation.step != 0:
                raise ForeignReportError(f"results: a stage starts at step 0, not {evaluation.step}")
            if evaluation.stage not in stages:
                raise ForeignReportError(f"results: {evaluation.stage} is not the stage of the report")
        if report.results.sets and report.role not in EVALUATED_SUBJECTS:
            raise ForeignReportError(f"results: role {report.role} does not evaluate anything")
        if report.results.last_published and report.role not in (Role.GATE, Role.PUBLISH):
            raise ForeignReportError(f"results: role {report.role} does not read published versions")
        if report.plan is not None and report.role is not Role.DATA:
            raise ForeignReportError(f"plan: role {report.role} does not make a plan")
        if report.published and report.role is not Role.PUBLISH:
            raise ForeignReportError(f"published: role {report.role} does not publish")
        if len(report.published) > MAX_PUBLISHED:
            raise ForeignReportError(f"published: a job has at most {MAX_PUBLISHED} targets")
