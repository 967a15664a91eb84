"""Render the HTML report of a job from the files that exist so far: one page without JavaScript or
network."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tunegate_api.contract.request import Request
from tunegate_api.contract.results import Subject
from tunegate_api.duration import duration_text
from tunegate_api.judging.judgement import judge_final
from tunegate_api.judging.review import ReviewRecord
from tunegate_api.memory.fitting import size_text
from tunegate_api.v1alpha2.evaluation_status import PersonDecision
from tunegate_trainer.process.files import write_atomic
from tunegate_trainer.publish.parameters import parameter_rows
from tunegate_trainer.report.cases import comparisons
from tunegate_trainer.report.charts import length_chart, loss_chart, rate_chart
from tunegate_trainer.report.checks import check_results
from tunegate_trainer.report.collect import Collected, collect
from tunegate_trainer.report.error_rates import error_rates_of
from tunegate_trainer.report.headline import headline
from tunegate_trainer.report.parameters import gate_rows, job_rows, memory_rows
from tunegate_trainer.report.production import production_match
from tunegate_trainer.report.review import review_of
from tunegate_trainer.report.scores import scores
from tunegate_trainer.report.stages import stages_of


def _utc(value: Any) -> str:
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


TEMPLATES = Environment(
    loader=PackageLoader("tunegate_trainer.report"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)
"""The templates of the page. Each is compiled once in a process."""
TEMPLATES.filters |= {"duration": duration_text, "size": size_text, "utc": _utc}


def render(
    workspace: Path,
    request: Request,
    review: ReviewRecord | None = None,
    decision: PersonDecision | None = None,
) -> Path:
    """Write the report into the job's folder below ``workspace``, the storage volume, and return its path.

    ``review`` has the scores with which the review of the data was decided, and ``decision`` is a person's
    decision about the final verdict. Sections without data are left out. Text from models and users is
    escaped.
    """
    job = collect(workspace, request, review, decision)
    path = workspace / job.paths.report
    write_atomic(path, _page(job))
    return path


def _page(job: Collected) -> str:
    stages = stages_of(job)
    judgement = judge_final(job.request, job.results)
    review, match = review_of(job, is_training=bool(stages)), production_match(job)
    times = [report.time for report in job.reports.values()]
    return TEMPLATES.get_template("report.html.j2").render(
        job=job,
        request=job.request,
        plan=job.plan,
        headline=headline(job, stages, judgement, review),
        review=review,
        match=match,
        length_chart=length_chart(match) if match else None,
        checks=check_results(job),
        scores=scores(job, stages, judgement),
        error_rates=error_rates_of(job, judgement),
        stages=[(stage, loss_chart(stage), rate_chart(stage)) for stage in stages],
        comparisons=comparisons(job, stages),
        parameters=[*parameter_rows(job.plan.stages), *memory_rows(job.plan.stages)] if job.plan else [],
        gate_settings=gate_rows(job.request.gates, job.gate_result),
        job_settings=job_rows(job.request, job.gate_result),
        digests=_digests(job),
        as_of=max(times) if times else datetime.now(UTC),
    )


def _digests(job: Collected) -> list[tuple[str, str]]:
    """Return the digests of the model, the data, the golden sets and the artifact, with their names."""
    plan, rows = job.plan, []
    if plan:
        rows = [
            ("base model", plan.model.digest),
            ("data, as given", plan.data.source_sha256),
            *((f"mix {mixed.name}, as given", mixed.source_sha256) for mixed in plan.data.mix),
            ("train split", plan.data.train.sha256),
            ("dev split", plan.data.dev.sha256),
            ("test split", plan.data.test.sha256),
        ]
        rows += [("review sample", plan.data.review.sha256)] if plan.data.review else []
        if plan.data.preference:
            pairs = plan.data.preference
            rows += [
                ("pairs, as given", pairs.source_sha256),
                ("train pairs", pairs.train.sha256),
                ("dev pairs", pairs.dev.sha256),
                ("test pairs", pairs.test.sha256),
            ]
    rows += [(f"golden set {gate.name}", gate.golden_sha256) for gate in job.request.gates]
    gates = job.request.final_gates
    rows += [(f"safety set {gate.name}", gate.safety_sha256) for gate in gates if gate.safety_sha256]
    return rows + [("artifact", final.digest) for final in job.results.find(Subject.FINAL) if final.digest]
