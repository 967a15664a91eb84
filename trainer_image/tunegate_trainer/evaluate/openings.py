"""Count how often final gates have opened (evaluated on) a test set. The more often a test set is used, the
less its results mean."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tunegate_api.contract import Request
from tunegate_api.meta import StatusModel, Time
from tunegate_api.workspace import Workspace
from tunegate_trainer.evaluate.sets import EvaluationSet
from tunegate_trainer.process.files import write_model


class Opening(StatusModel):
    """The record of one final gate that opened a test set. Its file is never changed or removed."""

    job: str
    uid: str
    stage: str
    step: int
    time: Time


def record_openings(
    workspace: Path, request: Request, stage: str, step: int, sets: Sequence[EvaluationSet]
) -> dict[str, int]:
    """Record that the final gate of a checkpoint opens the test ``sets``.

    Returns how many final gates of all jobs on the volume have opened each set, by the set's name. This gate
    is included. A set is identified by the digest of its file. A gate that is retried for the same checkpoint
    counts once.
    """
    opening = Opening(job=request.name, uid=request.uid, stage=stage, step=step, time=datetime.now(UTC))
    counts: dict[str, int] = {}
    for opened in sets:
        folder = workspace / Workspace.openings(opened.case_set.sha256)
        path = folder / f"{request.uid}-{stage}-{step}.json"
        if not path.exists():
            write_model(path, opening)
        count = sum(1 for _ in folder.glob("[!.]*.json"))
        counts |= dict.fromkeys(opened.names.values(), count)
    return counts
