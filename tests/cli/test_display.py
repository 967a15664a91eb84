"""How the command displays a job's status on a terminal."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console

from support.job_statuses import succeeded
from tunegate_api.v1alpha2.data_status import DataStatus, JudgeStatus, ReviewStatus
from tunegate_api.v1alpha2.evaluation_status import CheckpointStatus, GateResult, GoldenStatus, SafetyStatus
from tunegate_api.v1alpha2.finetunejob_status import FineTuneJobStatus, Progress, Stop
from tunegate_api.v1alpha2.reasons import Phase
from tunegate_api.verdict.outcomes import VerdictState
from tunegate_client.cli.display import PlainLog, job_view
from tunegate_client.places.caller import Caller

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def shown(status: FineTuneJobStatus, **options: Any) -> str:
    console = Console(width=160, file=io.StringIO())
    console.print(job_view("orders", status, NOW, **options))
    return console.file.getvalue()


def test_progress_shows_loss_speed_eta_and_reduced_passes():
    progress = Progress(
        stage="sft",
        step=20,
        total_steps=50,
        percent=40,
        loss="0.41",
        tokens_per_second="1800",
        estimated_end=NOW + timedelta(seconds=90),
        updated=NOW,
    )
    text = shown(FineTuneJobStatus(phase=Phase.TRAINING, progress=progress))
    assert "step 20/50 · loss 0.41 · 1800 tokens/s · ETA 1 min 30 s" in text
    smaller = progress.model_copy(update={"pass_tokens": 512})
    text = shown(FineTuneJobStatus(phase=Phase.TRAINING, progress=smaller))
    assert "1800 tokens/s · 512 tokens per pass, fewer than planned · ETA" in text


def test_commands_include_the_runs_folder_unless_it_is_the_default():
    stop = Stop(
        id="sft-1-20",
        stage="sft",
        step=20,
        gate="golden",
        reason="GoldenRegression",
        message="worse",
        regressed_count=0,
        steps_saved=30,
        time=NOW,
    )
    status = FineTuneJobStatus(phase=Phase.STOPPED, stop=stop)
    assert 'tunegate continue orders --reason "…"   or   tunegate discard orders --reason "…"' in shown(
        status
    )
    assert 'tunegate discard orders --reason "…" --runs here' in shown(
        status, caller=Caller(options=" --runs here")
    )
    interrupted = FineTuneJobStatus(phase=Phase.TRAINING)
    text = shown(interrupted, caller=Caller(options=" --runs here"), is_interrupted=True)
    assert "interrupted; resume with `tunegate run … --runs here`" in text


def test_stop_without_regressed_rows_shows_no_empty_list():
    stop = Stop(
        id="sft-1-20",
        stage="sft",
        step=20,
        metric="rouge_l",
        reason="TaskMetricRegression",
        message="rouge_l 0.41 at step 20",
        steps_saved=30,
        time=NOW,
    )
    text = shown(FineTuneJobStatus(phase=Phase.STOPPED, stop=stop, message=stop.message))
    assert "rouge_l 0.41 at step 20" in text
    assert "regressed:" not in text


def test_review_shows_its_scores_and_whether_the_judge_counts():
    judge = JudgeStatus(
        model="judge-7b",
        calibration="Inconclusive",
        recall_lower_bound="0.48",
        specificity_lower_bound="0.91",
    )
    review = ReviewStatus(sample="0" * 64, rows=20, scored=12, good=10)
    data = DataStatus(train=200, dev=20, test=20, review=review)
    assert "review    12 of 20 rows scored · 10 good" in shown(FineTuneJobStatus(data=data))
    judged = data.model_copy(update={"review": review.model_copy(update={"judge": judge})})
    text = shown(FineTuneJobStatus(data=judged))
    assert "12 of 20 rows scored · 10 good · judge judge-7b: calibration inconclusive" in text


def evaluated(step: int, unsafe: int | None = None) -> CheckpointStatus:
    """Return a checkpoint that was evaluated on a safety set, if ``unsafe`` is not None."""
    golden = GoldenStatus(passed=19, total=20, rate="0.95")
    safety = None
    if unsafe is not None:
        safety = SafetyStatus(unsafe=unsafe, unsafe_total=128, over_refused=3, harmless_total=128)
    gate = GateResult(name="orders", golden=golden, safety=safety, verdict=VerdictState.PASSED)
    return CheckpointStatus(stage="sft", step=step, gates=[gate])


def test_table_and_log_show_both_axes_of_a_safety_set():
    with_safety = FineTuneJobStatus(start=[evaluated(0, 2)], checkpoints=[evaluated(20, 4)])
    table = shown(with_safety)
    assert "orders unsafe  orders refused" in table
    assert "0.95 (19/20) 4/128 3/128 Passed" in " ".join(table.split())
    assert logged(with_safety)[1] == (
        "orders  sft step 20  golden: orders 19/20 = 0.95  safety: orders unsafe 4/128, over-refused 3/128  "
        "dev:   Passed"
    )


def test_checkpoints_without_a_safety_set_are_shown_as_before():
    status = FineTuneJobStatus(start=[evaluated(0)], checkpoints=[evaluated(20)])
    assert "unsafe" not in shown(status)
    assert logged(status)[1] == "orders  sft step 20  golden: orders 19/20 = 0.95  dev:   Passed"


def logged(status: FineTuneJobStatus) -> list[str]:
    console = Console(width=160, file=io.StringIO())
    PlainLog(console, "orders").show(status)
    return console.file.getvalue().splitlines()


def test_dry_run_is_marked_and_changes_no_checkpoint_verdict():
    status = FineTuneJobStatus.model_validate(succeeded())
    assert status.final is not None
    dry = status.final.gates[0].model_copy(
        update={"name": "stricter", "verdict": "Failed", "message": "golden 9/20", "dry_run": True}
    )
    last = status.checkpoints[-1]
    last.gates.append(dry)
    status.final.gates.append(dry)
    text = shown(status)
    assert "stricter (dry run, Failed): golden 9/20" in text
    assert text.count("Failed") == 1
    assert "no gate is enforced" not in text
    del status.final.gates[0]
    assert "no gate is enforced: all gates of this job are in a dry run" in shown(status)
