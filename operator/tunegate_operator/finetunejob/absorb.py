"""Record the reports of pods in ConfigMaps, and show them in status."""

from tunegate_api.contract.baselines import MeasuredBaseline
from tunegate_api.contract.plan import Plan, plan_digest
from tunegate_api.contract.process import Role
from tunegate_api.contract.results import Subject
from tunegate_api.judging.stages import StageAssessment, accepted_step, assess_stage
from tunegate_api.memory.advice import advise
from tunegate_api.meta import Sha256
from tunegate_api.v1alpha2 import FineTuneJob
from tunegate_api.v1alpha2.data_status import MAX_DATA_CHECKS, DataStatus
from tunegate_api.v1alpha2.evaluation_status import BaselineDigest
from tunegate_api.v1alpha2.finetunejob_status import (
    MAX_BASELINES,
    MAX_IMAGE_ID,
    ModelStatus,
    PlanStatus,
    Published,
    StageSummary,
)
from tunegate_operator.children.observed import ChildState
from tunegate_operator.engine.controller import Create, Put
from tunegate_operator.finetunejob.build import plan_config_map, results_config_map
from tunegate_operator.finetunejob.checkpoints import judged_checkpoints
from tunegate_operator.finetunejob.cost import memory_of
from tunegate_operator.finetunejob.draft import Run
from tunegate_operator.finetunejob.observe import ObservedJob
from tunegate_operator.names import Step


def absorb_plan(run: Run) -> None:
    """Show the recorded plan in status once the data step has ended, which saves a write. If no plan is
    recorded, record the one in the data pod's report."""
    observed, draft, plan = run.observed, run.draft, run.observed.plan
    if plan is None:
        report = observed.report_of(Step(Role.DATA))
        plan = report.plan if report else None
        if plan is None:
            return
        plan = plan.model_copy(update={"image": _image_of(observed)})
        draft.agenda.actions.append(Create(plan_config_map(observed.job, plan)))
    run.plan = plan
    if _is_active(observed, Role.DATA):
        return
    data = plan.data
    draft.set(
        data=DataStatus(
            train=data.train.rows,
            dev=data.dev.rows,
            test=data.test.rows,
            dropped=data.dropped,
            distribution_auc=data.production.distribution_auc if data.production else None,
            warnings=[text[:512] for text in (*run.request.left_out.values(), *data.warnings)][:8],
        )
    )
    digest = plan_digest(plan)
    if draft.status.plan is None or draft.status.plan.sha256 != digest:
        draft.set(plan=_plan_status(observed.job, plan, digest))


def absorb_data_checks(run: Run) -> None:
    """Show the results of the data checks, also of a data pod that refused the data."""
    report = run.observed.report_of(Step(Role.DATA))
    if report and report.data_checks:
        run.draft.set(data_checks=report.data_checks[:MAX_DATA_CHECKS])


def _is_active(observed: ObservedJob, role: Role) -> bool:
    return any(child.state is ChildState.ACTIVE for child in observed.attempts_of(Step(role)))


def _image_of(observed: ObservedJob) -> str | None:
    """Return the image of the newest data pod, by digest; None if no data pod shows its image."""
    pods = [pod for child in observed.attempts_of(Step(Role.DATA)) for pod in child.pods if pod.image]
    return pods[-1].image[:MAX_IMAGE_ID] if pods else None


def _plan_status(job: FineTuneJob, plan: Plan, digest: Sha256) -> PlanStatus:
    start = plan.model.start_from
    return PlanStatus(
        sha256=digest,
        config_map=plan_config_map(job, plan)["metadata"]["name"],
        model=ModelStatus(
            uri=plan.model.uri,
            start_from=start.job if start else None,
            revision=plan.model.revision,
            digest=plan.model.digest,
        ),
        image=plan.image,
        memory=memory_of(plan, job.spec) or None,
        parameters=plan.model.parameters,
        stages=[StageSummary(stage=s.name, steps=s.total_steps, tokens=s.tokens) for s in plan.stages],
        advice=[a[:512] for a in advise(job.spec, plan.model.shape, plan.stages, plan.judging)[:8]],
    )


def absorb_results(run: Run) -> None:
    """Merge the results in reports into the recorded results, and record them if they changed."""
    for report in run.observed.reports:
        run.results = run.results.merged(report.results)
    if run.results != run.observed.results:
        run.draft.agenda.actions.append(Put(results_config_map(run.observed.job, run.results)))


def absorb_published(run: Run) -> None:
    """Show where the artifact is published, as soon as the publish pod reports it."""
    draft = run.draft
    report = run.observed.report_of(Step(Role.PUBLISH))
    known = {(p.uri, p.digest): p for p in draft.status.published}
    if report and report.published:
        reported = [Published(uri=p.uri, digest=p.digest, time=report.time) for p in report.published]
        draft.set(published=[known.get((p.uri, p.digest), p) for p in reported])


def absorb_baselines(run: Run) -> None:
    """Show the cached baselines that pods of this job measured or used, the newest last."""
    known = {baseline.key: baseline for baseline in run.draft.status.baselines}
    for each in measured_baselines(run.observed):
        known.pop(each.key, None)
        known[each.key] = BaselineDigest(key=each.key, sha256=each.sha256)
    run.draft.set(baselines=list(known.values())[-MAX_BASELINES:])


def measured_baselines(observed: ObservedJob) -> list[MeasuredBaseline]:
    """Return the baselines that training and gate pods list in their termination messages, oldest pod
    first."""
    children = [child for child in observed.children if child.step.role in (Role.TRAIN, Role.GATE)]
    pods = sorted((pod for child in children for pod in child.pods), key=lambda pod: (pod.created, pod.uid))
    return [each for pod in pods if (end := pod.termination) for each in end.baselines]


def find_regression(run: Run) -> StageAssessment | None:
    """Return the assessment of the last checkpoint if it regressed, otherwise None."""
    stages = [stage.name for stage in run.observed.job.spec.stages]
    evaluated = (stage for stage in reversed(stages) if run.results.find(Subject.CHECKPOINT, stage))
    stage = next(evaluated, stages[0])
    accepted = accepted_step(run.draft.status.decisions, stage)
    found = assess_stage(run.request, run.results, stage, accepted)
    return found if found and found.assessment.regressing else None


def show_progress(run: Run) -> None:
    """Write into the status: the starting model of each stage, the checkpoints, the best checkpoint, and the
    progress of training."""
    observed, draft = run.observed, run.draft
    judged = judged_checkpoints(run.request, run.results)
    steps = [Step(Role.TRAIN, stage.name) for stage in observed.job.spec.stages]
    if _is_active(observed, Role.GATE):
        steps.append(Step(Role.GATE))  # its current activity, while it runs
    reports = [report for step in steps if (report := observed.report_of(step))]
    before = draft.status.progress
    reached = before.model_copy(update={"activity": None}) if before else None
    draft.set(
        start=list(judged.start),
        checkpoints=list(judged.checkpoints),
        checkpoints_omitted=judged.omitted,
        best_checkpoint=judged.best,
        progress=next((r.progress for r in reversed(reports) if r.progress), reached),
    )
