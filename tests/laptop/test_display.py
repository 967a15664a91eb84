"""What a terminal shows of a job's status."""

import io
from datetime import UTC, datetime, timedelta

from rich.console import Console

from tunegate_api.v1alpha1.finetunejob_status import FineTuneJobStatus, Phase, Progress
from tunegate_operator.display import job_view

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def shown(status: FineTuneJobStatus) -> str:
    console = Console(width=160, file=io.StringIO())
    console.print(job_view("orders", status, NOW))
    return console.file.getvalue()


def test_progress_has_its_loss_speed_and_eta_and_says_where_less_fits_a_pass_than_planned():
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
    smaller = progress.model_copy(update={"micro_batch_size": 2})
    text = shown(FineTuneJobStatus(phase=Phase.TRAINING, progress=smaller))
    assert "1800 tokens/s · 2 examples a pass, more did not fit · ETA" in text
