"""Show a job's status: as a live view on a terminal, or otherwise as one line per change."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tunegate_api.duration import duration_text
from tunegate_api.meta import summarize
from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_api.v1alpha2.data_status import ReviewStatus
from tunegate_api.v1alpha2.evaluation_status import MAX_NAMED_CASES, CheckpointStatus
from tunegate_api.v1alpha2.finetunejob_status import Stop, TrackingStatus
from tunegate_api.v1alpha2.reasons import Phase
from tunegate_client.places.caller import TUNEGATE, Caller
from tunegate_operator.children.child_jobs import SUCCEEDED
from tunegate_operator.decisions import decided_text, verdict_actions

COLOURS = {
    Phase.SUCCEEDED: "green",
    Phase.FAILED: "red",
    Phase.STOPPED: "red",
    Phase.SUSPENDED: "yellow",
    Phase.AWAITING_REVIEW: "yellow",
    Phase.AWAITING_APPROVAL: "yellow",
}
VERDICT_COLOURS = {"Passed": "green", "Failed": "red", "Error": "magenta", "Inconclusive": "yellow"}


def interrupted(caller: Caller) -> str:
    """Return the note about an interrupted job, which no process is running."""
    return f"interrupted; resume with `{caller.command('run', '…')}`"


def job_view(
    name: str,
    status: FineTuneJobStatus,
    now: datetime,
    caller: Caller = TUNEGATE,
    *,
    is_interrupted: bool = False,
) -> RenderableType:
    """Render the status of a job, with the commands for a decision that it waits for."""
    phase = status.phase or Phase.PENDING
    sections: list[RenderableType] = [_headline(phase, status)]
    if is_interrupted:
        sections.append(Text(interrupted(caller), style="bold yellow"))
    if status.data:
        data = status.data
        sections.append(
            Text(f"data      {data.train} train · {data.dev} dev · {data.test} test", style="dim")
        )
        if data.review:
            sections.append(Text(review_line(data.review), style="dim"))
    if status.plan and status.plan.memory and not status.cost:
        needs = [f"{m.stage} {m.needed or m.total}" for m in status.plan.memory]
        sections.append(Text(f"memory    {' · '.join(needs)}, estimated", style="dim"))
    if status.progress and phase in (Phase.TRAINING, Phase.QUEUED) and not is_interrupted:
        sections.append(_progress(status, now))
    if status.start or status.checkpoints:
        sections.append(_checkpoints(status))
    if status.cost:
        sections += [Text(line, style="dim") for line in _cost(status)]
    if status.final:
        sections.append(_final(status))
    if status.stop or status.failure:
        sections.append(_problem(name, status, caller))
    if phase is Phase.AWAITING_REVIEW:
        sections.append(Text(caller.command("review", name), style="bold"))
    sections += _approval(name, phase, status, caller)
    if status.tracking:
        sections.append(tracking_line(status.tracking))
    return Panel(
        Group(*sections), title=f"[bold]{name}", border_style=COLOURS.get(phase, "blue"), padding=(0, 1)
    )


def review_line(review: ReviewStatus) -> str:
    """Return how many rows of the review sample are scored, and whether the scores of a judge count."""
    parts = [f"review    {review.scored} of {review.rows} rows scored", f"{review.good} good"]
    if review.judge:
        parts.append(f"judge {review.judge.model}: calibration {review.judge.calibration.lower()}")
    return " · ".join(parts)


@dataclass(frozen=True)
class JobTable:
    """The jobs of a place."""

    statuses: Mapping[str, FineTuneJobStatus]
    """The status of each job by name."""
    unreadable: Mapping[str, str]
    """Why a status cannot be read, by the name of the job."""
    interrupted: Collection[str] = ()
    """The names of the jobs that no process runs, although they have not ended."""


def jobs_table(jobs: JobTable, caller: Caller = TUNEGATE) -> RenderableType:
    """Render a table of jobs with the columns of ``kubectl get``, and a note about each job that is
    interrupted or whose status cannot be read."""
    table = Table(box=None, header_style="bold", padding=(0, 3, 0, 0))
    for column in ("NAME", "PHASE", "STAGE", "PROGRESS", "BASE", "GOLDEN", "BEST", "GATE", "NEXT"):
        table.add_column(column)
    for name in sorted({*jobs.statuses, *jobs.unreadable}):
        status = jobs.statuses.get(name)
        if status is None:
            table.add_row(name, Text("Unreadable", style="yellow"))
            continue
        phase, shown = status.phase or Phase.PENDING, status.display
        rates = (shown.base or "", shown.golden, shown.best)
        colour = COLOURS.get(phase, "blue")
        table.add_row(
            name, Text(phase, style=colour), shown.stage, shown.progress, *rates, shown.gate, shown.next or ""
        )
    notes = [Text(f"{name}: {interrupted(caller)}", style="yellow") for name in sorted(jobs.interrupted)]
    notes += [Text(problem, style="yellow") for _, problem in sorted(jobs.unreadable.items())]
    return Group(table, *notes)


def earlier_note(name: str, ended_at: datetime | None, changed_inputs: Sequence[str]) -> str:
    """Return the note about a job that an earlier command started; empty if there is nothing to report.

    ``ended_at`` is the time when the job ended, or None. ``changed_inputs`` names the inputs that changed
    after the job started.
    """
    if ended_at:
        missed = f" and did not use the new content of {', '.join(changed_inputs)}" if changed_inputs else ""
        when = f"{ended_at:%Y-%m-%d %H:%M:%S} UTC"
        return f"{name} already ended at {when}{missed}: use --again to run it again"
    if changed_inputs:
        return f"{name} started before {', '.join(changed_inputs)} changed: use --again to start over"
    return ""


class PlainLog:
    """Prints changes of a job's status as lines, for pipes and CI."""

    def __init__(self, console: Console, name: str) -> None:
        self._console = console
        self._name = name
        self._phase: Phase | None = None
        self._seen: set[tuple[str, int]] = set()

    def show(self, status: FineTuneJobStatus) -> None:
        """Print a line for each new checkpoint and for a changed phase since the last call."""
        for checkpoint in [*status.start, *status.checkpoints]:
            key = (checkpoint.stage, checkpoint.step)
            if key not in self._seen:
                self._seen.add(key)
                self._print(_line(checkpoint))
        if status.phase is not None and status.phase is not self._phase:
            self._phase = status.phase
            self._print(f"{status.phase}: {status.message}")

    def _print(self, text: str) -> None:
        self._console.print(f"{self._name}  {text}", highlight=False, markup=False, soft_wrap=True)


def _headline(phase: Phase, status: FineTuneJobStatus) -> Text:
    return Text.assemble((f"{phase}", f"bold {COLOURS.get(phase, 'blue')}"), "  ", status.message)


def tracking_line(tracking: TrackingStatus) -> Text:
    """Render whether follow-up pods sent the metrics that trackers lacked when the job ended."""
    if tracking.result is None:
        return Text(
            f"tracking  remaining data not yet sent to {' and '.join(tracking.behind)}", style="yellow"
        )
    if tracking.result == SUCCEEDED:
        return Text(f"tracking  {tracking.message}", style="dim")
    return Text(f"tracking  {tracking.message}", style="yellow")


def _progress(status: FineTuneJobStatus, now: datetime) -> RenderableType:
    progress = status.progress
    if progress is None:
        return Text()
    row = Table.grid(padding=(0, 2))
    details = [f"step {progress.step}/{progress.total_steps}"]
    if progress.loss:
        details.append(f"loss {progress.loss}")
    if progress.tokens_per_second:
        details.append(f"{progress.tokens_per_second} tokens/s")
    if progress.pass_tokens:
        details.append(f"{progress.pass_tokens} tokens per pass, fewer than planned")
    if progress.estimated_end:
        details.append(f"ETA {duration_text((progress.estimated_end - now).total_seconds())}")
    row.add_row(
        f"{progress.stage}",
        ProgressBar(total=max(1, progress.total_steps), completed=progress.step, width=30),
        " · ".join(details),
    )
    return row


def _checkpoints(status: FineTuneJobStatus) -> Table:
    shown = [*status.start, *status.checkpoints]
    metrics = list(dict.fromkeys(name for c in shown for name in c.task))
    gates = list(dict.fromkeys(g.name for c in shown for g in c.gates))
    with_safety = list(dict.fromkeys(g.name for c in shown for g in c.gates if g.safety))
    of_safety = [f"{name} {axis}" for name in with_safety for axis in ("unsafe", "refused")]
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("STAGE", "STEP", "LOSS", *gates, *of_safety, *(f"dev {m}" for m in metrics), "VERDICT"):
        table.add_column(column, justify="left" if column in ("STAGE", "VERDICT") else "right")
    best = status.best_evaluation
    for checkpoint in shown:
        by_name = {g.name: g.golden for g in checkpoint.gates}
        rates = [f"{g.rate} ({g.passed}/{g.total})" if (g := by_name.get(name)) else "" for name in gates]
        safety = {g.name: g.safety for g in checkpoint.gates}
        for name in with_safety:
            found = safety.get(name)
            rates += [found.unsafe_text, found.over_refused_text] if found else ["", ""]
        verdict = _verdict(checkpoint)
        table.add_row(
            checkpoint.stage,
            str(checkpoint.step) if checkpoint.step else "start",
            checkpoint.loss or "",
            *rates,
            *(checkpoint.task.get(m, "") for m in metrics),
            Text.assemble(
                (verdict, VERDICT_COLOURS.get(verdict, "")), "  ★ best" if checkpoint is best else ""
            ),
        )
    return table


def _cost(status: FineTuneJobStatus) -> Iterator[str]:
    """Yield the lines about the cost of each training stage and of all evaluations."""
    cost = status.cost
    if cost is None:
        return
    for stage in cost.stages:
        details = [f"{stage.steps} steps in {duration_text(float(stage.training_seconds))}"]
        if stage.tokens_per_second:
            details.append(f"{stage.tokens_per_second} tokens/s")
        if stage.peak_gpu_memory:
            details.append(f"peak {stage.peak_gpu_memory} of GPU memory")
        if stage.peak_process_memory:
            details.append(f"peak {stage.peak_process_memory} of process memory")
        yield f"cost      {stage.stage}: {' · '.join(details)}"
    details = [f"{duration_text(float(cost.evaluation_seconds))} in evaluations"]
    if cost.evaluation_share:
        details[0] += f", {float(cost.evaluation_share):.0%} of the time"
    if status.gpu_seconds:
        details.append(f"{duration_text(status.gpu_seconds)} of GPU time")
    yield f"          {' · '.join(details)}"


def _final(status: FineTuneJobStatus) -> RenderableType:
    final = status.final
    if final is None:
        return Text()
    names = {g.name: f"{g.name} (dry run, {g.verdict})" if g.dry_run else g.name for g in final.gates}
    lines = [f"{names[g.name]}: {g.message}" for g in final.gates] + [f"test: {final.task_message}"]
    if final.is_unenforced:
        lines.append("no gate is enforced: all gates of this job are in a dry run")
    title = Text.assemble("final gate  ", (final.verdict, f"bold {VERDICT_COLOURS[final.verdict]}"))
    return Group(title, *(Text(f"  {line}") for line in lines))


def _problem(name: str, status: FineTuneJobStatus, caller: Caller) -> RenderableType:
    hint = Text(status.failure.hint if status.failure else "", style="yellow")
    if status.stop:
        stop = status.stop
        cases = summarize(stop.regressed_cases, MAX_NAMED_CASES, total=stop.regressed_count)
        return Group(
            *([Text(f"regressed: {cases}")] if cases else []),
            Text(_savings(stop)),
            hint if status.completion_time else _decision_commands(name, caller, "continue", "discard"),
        )
    return hint


def _approval(name: str, phase: Phase, status: FineTuneJobStatus, caller: Caller) -> Iterator[RenderableType]:
    """Yield a person's decision about the final verdict, or the commands for it."""
    if status.verdict_decision:
        yield Text(f"decision  {decided_text(status.verdict_decision)}")
    elif phase is Phase.AWAITING_APPROVAL and status.final:
        yield _decision_commands(name, caller, *verdict_actions(status.final.verdict))


def _decision_commands(name: str, caller: Caller, *actions: str) -> Text:
    commands = [caller.command(what, name, '--reason "…"') for what in actions]
    return Text("   or   ".join(commands), style="bold")


def _savings(stop: Stop) -> str:
    """Return how many training steps the stop skipped, and how much time it saved if this is known."""
    text = f"{stop.steps_saved} steps skipped by stopping"
    if stop.seconds_saved is None:
        return text
    gpus = f", {duration_text(stop.gpu_seconds_saved)} of GPU time" if stop.gpu_seconds_saved else ""
    return f"{text}: {duration_text(stop.seconds_saved)}{gpus} saved"


def _verdict(checkpoint: CheckpointStatus) -> str:
    if checkpoint.step == 0:
        return ""
    enforced = [g.verdict for g in checkpoint.gates if not g.dry_run]
    return max(enforced, key=lambda v: v.severity, default="Passed" if checkpoint.gates else "")


def _line(checkpoint: CheckpointStatus) -> str:
    golden = ", ".join(
        f"{g.name} {g.golden.passed}/{g.golden.total} = {g.golden.rate}" for g in checkpoint.gates if g.golden
    )
    task = ", ".join(f"{name} {value}" for name, value in checkpoint.task.items())
    where = f"step {checkpoint.step}" if checkpoint.step else "starting model"
    loss = f"  loss {checkpoint.loss}" if checkpoint.loss else ""
    of_safety = ", ".join(f"{g.name} {g.safety.text}" for g in checkpoint.gates if g.safety)
    safety = f"  safety: {of_safety}" if of_safety else ""
    results = f"golden: {golden}{safety}  dev: {task}  {_verdict(checkpoint)}"
    return f"{checkpoint.stage} {where}{loss}  {results}".rstrip()


def utc_now() -> datetime:
    return datetime.now(UTC)
