"""A pod may send its own reports and the reports that earlier pods left, but no reports of a later step."""

from datetime import UTC, datetime
from typing import Any

import pytest

from support.world import plan_for
from tunegate_api.contract.process import Role
from tunegate_api.contract.published import LastPublished
from tunegate_api.contract.report import PublishedArtifact, Report
from tunegate_api.contract.results import ErrorRateOutcomes, Evaluation, Results, Subject
from tunegate_api.v1alpha2.finetunejob_status import Progress
from tunegate_api.verdict.outcomes import CaseSet
from tunegate_operator.names import Step
from tunegate_operator.reporting.steps import ForeignReportError, Sender

DATA, SFT, DPO = Step(Role.DATA), Step(Role.TRAIN, "sft"), Step(Role.TRAIN, "dpo")
GATE, PUBLISH, REPORT = Step(Role.GATE), Step(Role.PUBLISH), Step(Role.REPORT)
LATEST = {DATA: 1, SFT: 3, DPO: 2, GATE: 1, PUBLISH: 1, REPORT: 1}


def report(step: Step, attempt: int = 1, **content: Any) -> Report:
    return Report(
        job_uid="1",
        role=step.role,
        stage=step.stage,
        attempt=attempt,
        sequence=1,
        time=datetime(2026, 1, 1, tzinfo=UTC),
        **content,
    )


def results_of(subject: Subject, stage: str = "sft") -> Results:
    step = 0 if subject is Subject.START else 1
    return Results(evaluations=[Evaluation(subject=subject, stage=stage, step=step, outcomes={})])


def sender(step: Step, attempt: int | None = None) -> Sender:
    return Sender(step, LATEST[step] if attempt is None else attempt, ("sft", "dpo"), LATEST)


@pytest.mark.parametrize("step", [DATA, SFT, DPO, GATE, PUBLISH])
def test_pod_may_report_for_its_step_and_earlier_steps_only(step):
    order = [DATA, SFT, DPO, GATE, PUBLISH]
    later = order[order.index(step) + 1 :]
    for reported in later:
        with pytest.raises(
            ForeignReportError, match=f"role: a {step} pod may not send a report for {reported}"
        ):
            sender(step).check_report(report(reported))
    for reported in order[: -len(later) or None]:
        sender(step).check_report(report(reported))


@pytest.mark.parametrize("reported", [DATA, SFT, DPO, GATE, PUBLISH])
def test_report_role_may_send_reports_of_any_step(reported):
    sender(REPORT).check_report(report(reported))


@pytest.mark.parametrize("chore", [Step(Role.TRACK), Step(Role.CLEANUP)])
def test_tracking_and_cleanup_pods_may_not_report(chore):
    with pytest.raises(ForeignReportError, match="may not send a report for data"):
        Sender(chore, 1, ("sft",), LATEST).check_report(report(DATA))


@pytest.mark.parametrize(
    ("reported", "message"),
    [
        (Step(Role.TRAIN, "forged"), "stage: forged is not a training stage of this job"),
        (Step(Role.TRAIN), "stage: a report of role train must name its stage"),
        (Step(Role.GATE, "sft"), "role: gate sft is not a step of this job"),
        (Step(Role.REPORT), "role: report is not a step of this job"),
    ],
)
def test_report_of_a_step_that_the_job_lacks_is_refused(reported, message):
    with pytest.raises(ForeignReportError, match=message):
        sender(REPORT).check_report(report(reported))


@pytest.mark.parametrize(
    ("attempt", "refusal"),
    [
        (0, "attempt: 0 is less than 1"),
        (1, None),
        (2, None),
        (3, r"attempt: 3 is higher than the latest attempt \(2\) of train sft"),
    ],
)
def test_report_with_attempt_above_the_pods_own_is_refused(attempt, refusal):
    if refusal is None:
        sender(SFT, attempt=2).check_report(report(SFT, attempt))
    else:
        with pytest.raises(ForeignReportError, match=refusal):
            sender(SFT, attempt=2).check_report(report(SFT, attempt))


def test_report_of_an_attempt_that_never_started_is_refused():
    sender(GATE).check_report(report(SFT, 3))
    with pytest.raises(
        ForeignReportError, match=r"attempt: 4 is higher than the latest attempt \(3\) of train sft"
    ):
        sender(GATE).check_report(report(SFT, 4))
    with pytest.raises(
        ForeignReportError, match=r"attempt: 1 is higher than the latest attempt \(0\) of data"
    ):
        Sender(GATE, 1, ("sft", "dpo"), {}).check_report(report(DATA))


@pytest.mark.parametrize(
    ("step", "subject", "is_allowed"),
    [
        (SFT, Subject.START, True),
        (SFT, Subject.CHECKPOINT, True),
        (SFT, Subject.FINAL, False),
        (SFT, Subject.BASE, False),
        (GATE, Subject.BASE, True),
        (GATE, Subject.FINAL, True),
        (GATE, Subject.ENDPOINT, True),
        (SFT, Subject.ENDPOINT, False),
        (GATE, Subject.CHECKPOINT, False),
        (DATA, Subject.FINAL, False),
        (PUBLISH, Subject.FINAL, False),
    ],
)
def test_role_may_report_only_evaluations_that_it_makes(step, subject, is_allowed):
    sent = report(step, results=results_of(subject))
    if is_allowed:
        sender(step).check_report(sent)
    else:
        refusal = f"subject {subject}, which a pod of role {step.role} must not report"
        with pytest.raises(ForeignReportError, match=refusal):
            sender(step).check_report(sent)


@pytest.mark.parametrize(("step", "stage"), [(SFT, "dpo"), (GATE, "forged")])
def test_results_of_another_stage_are_refused(step, stage):
    subject = Subject.FINAL if step is GATE else Subject.CHECKPOINT
    refusal = f"stage {stage}, which is not (the stage of the report|a training stage of this job)"
    with pytest.raises(ForeignReportError, match=refusal):
        sender(step).check_report(report(step, results=results_of(subject, stage)))


@pytest.mark.parametrize(
    ("step", "content", "message"),
    [
        (
            DATA,
            {"results": Results(sets={"golden/g": CaseSet(sha256="0", ids=["a"])})},
            "results: the report has sets of cases, which a pod of role data must not report",
        ),
        (SFT, {"plan": plan_for("1")}, "the report has a plan, which a pod of role train must not report"),
        (
            GATE,
            {"published": [PublishedArtifact(uri="pvc://m/x", digest="0" * 64)]},
            "the report lists published artifacts, which a pod of role gate must not report",
        ),
        (
            SFT,
            {"results": Results(last_published=LastPublished(reading=1))},
            "results: the report has lastPublished, which a pod of role train must not report",
        ),
    ],
)
def test_report_with_another_roles_content_is_refused(step, content, message):
    with pytest.raises(ForeignReportError, match=message):
        sender(step).check_report(report(step, **content))


def test_report_with_excess_targets_or_wrong_start_step_is_refused() -> None:
    published = [PublishedArtifact(uri=f"pvc://m/{n}", digest="0" * 64) for n in range(5)]
    with pytest.raises(ForeignReportError, match="published: a job has at most 4 targets"):
        sender(PUBLISH).check_report(report(PUBLISH, published=published))
    started = Results(evaluations=[Evaluation(subject=Subject.START, stage="sft", step=3, outcomes={})])
    with pytest.raises(
        ForeignReportError, match="the evaluation of a stage's starting model must have step 0, not 3"
    ):
        sender(SFT).check_report(report(SFT, results=started))


@pytest.mark.parametrize("step", [SFT, PUBLISH])
def test_only_the_gate_role_may_report_error_rates(step: Step):
    measured = ErrorRateOutcomes(
        golden_sha256="a" * 64, base_digest="b" * 64, scoring="settings", reference="p"
    )
    results = Results(error_rates={"golden": measured})
    sender(GATE).check_report(report(GATE, results=results))
    with pytest.raises(ForeignReportError, match="results: the report has error rates"):
        sender(step).check_report(report(step, results=results))


def progress_of(**changes: Any) -> Progress:
    values = {"stage": "sft", "step": 1, "total_steps": 5, "percent": 20, "updated": datetime.now(UTC)}
    return Progress.model_validate(values | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage": "other"}, "progress: other is not a training stage of this report"),
        ({"stage": "dpo"}, "progress: dpo is not a training stage of this report"),
        ({"percent": 10**30}, "progress: a number is negative or larger than"),
        ({"step": -1}, "progress: a number is negative or larger than"),
        ({"gpu_memory": "9" * 65}, "progress: gpuMemory has more than 64 characters"),
    ],
)
def test_progress_that_status_cannot_show_is_refused(changes, message):
    with pytest.raises(ForeignReportError, match=message):
        sender(SFT).check_report(report(SFT, progress=progress_of(**changes)))


def test_training_and_gate_pods_may_report_progress():
    sender(SFT).check_report(report(SFT, progress=progress_of(gpu_memory="70.1 GiB")))
    sender(GATE).check_report(report(GATE, progress=progress_of(stage="dpo")))


@pytest.mark.parametrize("stages", [("sft",), ("dpo", "sft"), ("sft", "other")])
def test_plan_with_other_stages_than_the_job_is_refused(stages):
    with pytest.raises(ForeignReportError, match="plan: the stages of the plan are not the training stages"):
        sender(DATA).check_report(report(DATA, plan=plan_for("1", stages)))
