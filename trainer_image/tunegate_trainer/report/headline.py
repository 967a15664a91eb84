"""The top of the report: the state of the job in words, with the arithmetic of its verdict."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tunegate_api.contract.process import Outcome, Role
from tunegate_api.contract.report import PublishedArtifact
from tunegate_api.judging.judgement import Judgement
from tunegate_api.judging.selection import evaluated_checkpoints, selection_text
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.verdict.outcomes import RuleFinding, VerdictState
from tunegate_trainer.report.collect import Collected
from tunegate_trainer.report.review import ReviewReport, ReviewState
from tunegate_trainer.report.stages import StageHistory, StageStop

Tone = Literal["good", "bad", "unsure", "busy"]
_ROLE_WORDS = {
    Role.DATA: "Data preparation",
    Role.TRAIN: "Training",
    Role.GATE: "The final gate",
    Role.PUBLISH: "Publishing",
}


@dataclass(frozen=True)
class Headline:
    """The top of the page."""

    title: str
    tone: Tone
    sentence: str
    findings: tuple[tuple[str, RuleFinding], ...] = ()
    """The numbers behind the verdict, as pairs of a name and a finding. The name is that of the gate or task
    metric."""
    failure: Failure | None = None
    stop: StageStop | None = None
    published: tuple[PublishedArtifact, ...] = ()


def headline(
    job: Collected, stages: Sequence[StageHistory], judgement: Judgement | None, review: ReviewReport | None
) -> Headline:
    """Return the state of the job as far as its files show it."""
    failed = [r for r in job.reports.values() if r.failure is not None and r.outcome is Outcome.FAILED]
    if failed:
        report = max(failed, key=lambda r: r.time)
        where = f" ({report.stage})" if report.stage else ""
        published = tuple(report.published)
        if not published:
            sentence = "Nothing was trained." if report.role is Role.DATA else "Nothing was published."
        elif len(published) < len(publish_addresses(job)):
            sentence = f"Published only to {', '.join(one.uri for one in published)}."
        else:
            sentence = "The model is published."
        return Headline(
            title=f"{_ROLE_WORDS[report.role]}{where} failed",
            tone="bad",
            sentence=sentence,
            findings=tuple(judgement.findings) if judgement else (),
            failure=report.failure,
            published=published,
        )
    if judgement is not None:
        return _judged(job, judgement)
    if not stages:
        return _before_training(job, review)
    return _in_progress(job, stages)


def publish_addresses(job: Collected) -> set[str]:
    """Return the publish addresses in the spec, each once. Publishing is complete when the artifact is at all
    of them."""
    return {target.uri for target in job.request.spec.publish}


def _judged(job: Collected, judgement: Judgement) -> Headline:
    report = job.report_of(Role.PUBLISH)
    published = tuple(report.published) if report else ()
    texts: dict[VerdictState, tuple[str, Tone, str]] = {
        VerdictState.PASSED: (
            "Passed",
            "good",
            _passed_text(judgement),
        ),
        VerdictState.FAILED: ("Failed", "bad", "It was measured and is not good enough."),
        VerdictState.ERROR: ("Error", "unsure", "It could not be measured, so it does not pass."),
        VerdictState.INCONCLUSIVE: (
            "Inconclusive",
            "unsure",
            "It was measured, but on too few cases to say. It does not pass.",
        ),
    }
    title, tone, sentence = texts[judgement.state]
    selected = selection_text(evaluated_checkpoints(job.request, job.results), job.request, judgement)
    if selected and judgement.state is VerdictState.PASSED:
        sentence += f" It is the {selected}."
    decision = job.decision
    if decision:
        done = "overrode" if decision.action == "override" else "approved"
        sentence += f" {decision.by} {done} the verdict: {decision.reason}"
    addresses = len(publish_addresses(job))
    if published and len(published) < addresses:
        title += f" and published to {len(published)} of {addresses} addresses so far"
    elif published:
        title += " and published"
    elif judgement.state is not VerdictState.PASSED and decision is None:
        sentence += " Nothing was published."
    return Headline(title, tone, sentence, findings=tuple(judgement.findings), published=published)


def _passed_text(judgement: Judgement) -> str:
    dry_runs = ", ".join(f"{gate.name} {gate.verdict.state}" for gate in judgement.gates if gate.dry_run)
    text = "The exact artifact passed every gate and every task metric."
    if not judgement.enforced:
        text = "No gate is enforced: the exact artifact passed every task metric."
    elif dry_runs:
        text = "The exact artifact passed every enforced gate and every task metric."
    return f"{text} Dry run: {dry_runs}." if dry_runs else text


def _in_progress(job: Collected, stages: Sequence[StageHistory]) -> Headline:
    stage = stages[-1]
    if stage.stop:
        stop = stage.stop
        freed = "the GPU is free, " if job.request.spec.resources.accelerator == "GPU" else ""
        none = "No checkpoint passed" if stop.safety else "The starting model was best"
        kept = f"Step {stop.best_step} is kept" if stop.best_step else none
        return Headline(
            f"Stopped at step {stop.step} of {stop.total_steps}",
            "bad",
            f"The model was getting worse. {kept}, {freed}and the job waits for a decision.",
            stop=stop,
        )
    if stage.outcome is Outcome.COMPLETED and stage.best_step is None:
        last = stage.checkpoints[-1].gates if stage.checkpoints else ()
        return Headline(
            "Failed: no checkpoint passed",
            "bad",
            f"Stage {stage.name} is trained, but none of its checkpoints passed its gates.",
            findings=tuple((g.name, f) for g in last for f in g.verdict.findings if not g.dry_run),
        )
    where = f"step {stage.last_step} of {stage.total_steps}, stage {stage.name}"
    if stage.outcome is Outcome.INTERRUPTED:
        return Headline(
            f"Interrupted at {where}", "busy", "Everything is saved; the next attempt resumes from here."
        )
    if stage.outcome is Outcome.COMPLETED:
        best = f"step {stage.best_step} is best"
        return Headline(f"Trained: {stage.name}", "busy", f"{best}; the job continues with the next step.")
    return Headline("Training", "busy", f"At {where}.")


def _before_training(job: Collected, review: ReviewReport | None) -> Headline:
    if job.plan is None:
        return Headline("Not started", "busy", "There is no data about this job yet.")
    if review and review.is_first:
        if review.state is ReviewState.FAILED:
            title: tuple[str, Tone] = "The data failed its review", "bad"
        else:
            title = "Awaiting review", "unsure"
        return Headline(*title, review.sentence, findings=tuple(review.findings))
    data = job.plan.data
    rows = f"{data.train.rows:,} rows to train on, {data.dev.rows:,} dev and {data.test.rows:,} test rows"
    return Headline("Data is ready", "busy", f"{rows}. Training has not started.")
