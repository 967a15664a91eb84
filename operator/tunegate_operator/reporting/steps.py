"""Check which reports a pod may send: its own, and those that earlier pods of its job left in the outbox."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tunegate_api.contract.process import Role
from tunegate_api.contract.report import Report
from tunegate_api.contract.results import TRAINING_SUBJECTS, Subject
from tunegate_api.v1alpha2.finetunejob_status import MAX_PUBLISHED, Progress
from tunegate_operator.names import Step

EVALUATED_SUBJECTS = {
    Role.TRAIN: {*TRAINING_SUBJECTS},
    Role.GATE: {*Subject} - {*TRAINING_SUBJECTS},
}
"""The subjects that each role evaluates. Roles that are missing here evaluate nothing."""
MAX_PROGRESS = 10**15
"""The largest number in the progress of a report."""
MAX_MEMORY_TEXT = 64
"""Maximum length of the text for GPU memory in the progress of a report."""


class ForeignReportError(Exception):
    """The pod may send reports about this job, but not this report. The message names the wrong field."""


@dataclass(frozen=True)
class Sender:
    """A pod that sends reports: its step and attempt, and the stages and attempts of its FineTuneJob."""

    step: Step
    attempt: int
    stages: tuple[str, ...]
    """The names of the training stages in the job's spec, in order."""
    latest_attempts: Mapping[Step, int]
    """The number of the latest attempt of each step that has started."""

    def check_report(self, report: Report) -> None:
        """Raise ForeignReportError if this pod may not send ``report``.

        A pod may send reports about its own step, from its own or an earlier attempt. It may also send
        reports about earlier steps, from any attempt that has started, because it delivers the reports that
        earlier pods left in the outbox. A pod of role ``report``, which runs after the last step, may send
        reports about every step.
        """
        steps = [
            Step(Role.DATA),
            *(Step(Role.TRAIN, stage) for stage in self.stages),
            Step(Role.GATE),
            Step(Role.PUBLISH),
        ]
        reported = Step(report.role, report.stage)
        if reported not in steps:
            if report.role is Role.TRAIN and report.stage is None:
                raise ForeignReportError("stage: a report of role train must name its stage")
            if report.role is Role.TRAIN:
                raise ForeignReportError(f"stage: {report.stage} is not a training stage of this job")
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
        """Raise ForeignReportError if the report has content that pods of its role do not produce,
        evaluations or progress of another stage, progress that status cannot have, a plan with other stages
        than the job, or more than MAX_PUBLISHED published artifacts."""
        stages = self.stages if report.stage is None else (report.stage,)
        if report.progress:
            _check_progress(report.progress, stages)
        for evaluation in report.results.evaluations:
            if evaluation.subject not in EVALUATED_SUBJECTS.get(report.role, ()):
                raise ForeignReportError(
                    f"results: the report has an evaluation of subject {evaluation.subject}, which a pod of "
                    f"role {report.role} must not report"
                )
            if evaluation.subject is Subject.START and evaluation.step != 0:
                raise ForeignReportError(
                    "results: the evaluation of a stage's starting model must have step 0, "
                    f"not {evaluation.step}"
                )
            if evaluation.stage not in stages:
                expected = "the stage of the report" if report.stage else "a training stage of this job"
                raise ForeignReportError(
                    f"results: the report has an evaluation of stage {evaluation.stage}, "
                    f"which is not {expected}"
                )
        if report.results.sets and report.role not in EVALUATED_SUBJECTS:
            raise ForeignReportError(
                f"results: the report has sets of cases, which a pod of role {report.role} must not report"
            )
        if report.results.error_rates and report.role is not Role.GATE:
            raise ForeignReportError(
                f"results: the report has error rates, which a pod of role {report.role} must not report"
            )
        if report.results.last_published and report.role not in (Role.GATE, Role.PUBLISH):
            raise ForeignReportError(
                f"results: the report has lastPublished, which a pod of role {report.role} must not report"
            )
        if report.plan is not None and report.role is not Role.DATA:
            raise ForeignReportError(
                f"plan: the report has a plan, which a pod of role {report.role} must not report"
            )
        planned = tuple(stage.name for stage in report.plan.stages) if report.plan else self.stages
        if planned != self.stages:
            raise ForeignReportError("plan: the stages of the plan are not the training stages of this job")
        if report.published and report.role is not Role.PUBLISH:
            raise ForeignReportError(
                f"published: the report lists published artifacts, which a pod of role {report.role} must "
                "not report"
            )
        if len(report.published) > MAX_PUBLISHED:
            raise ForeignReportError(f"published: a job has at most {MAX_PUBLISHED} targets")


def _check_progress(progress: Progress, stages: Collection[str]) -> None:
    if progress.stage not in stages:
        raise ForeignReportError(f"progress: {progress.stage} is not a training stage of this report")
    counts = (progress.step, progress.total_steps, progress.percent, progress.pass_tokens or 0)
    if not all(0 <= count <= MAX_PROGRESS for count in counts):
        raise ForeignReportError(f"progress: a number is negative or larger than {MAX_PROGRESS}")
    if len(progress.gpu_memory or "") > MAX_MEMORY_TEXT:
        raise ForeignReportError(f"progress: gpuMemory has more than {MAX_MEMORY_TEXT} characters")
