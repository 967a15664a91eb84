"""The paths of a job's files on the storage volume."""

from pathlib import PurePosixPath

from tunegate_api.meta import RESERVED

RESULT = "result.json"
"""Name of the file with the result of an evaluation. It is written last, so a folder without this file is
incomplete."""
REVIEW_SAMPLE = "review/sample.jsonl"
"""Path in the data folder of the file with the rows that people review before training, one a line."""
JUDGE_ANSWERS = "review/judge.jsonl"
"""Path in the data folder of the file with the answers and faults of the judge model, one a line."""
PAIRS_PREFIX = "preference-"
"""Prefix of the names of files with pairs. It is followed by the name of the split: train, dev or test."""


TRAIN_EXAMPLES = "train.arrow"
"""Name of the file with the tokenized training rows. For pairs, it follows :data:`PAIRS_PREFIX`."""


def golden_file(gate: str) -> str:
    """Return the name of the file with the results of a gate's golden set, one case per line."""
    return f"golden-{gate}.jsonl"


def safety_file(gate: str) -> str:
    """Return the name of the file with the results of a gate's safety set, one case per line."""
    return f"safety-{gate}.jsonl"


def rows_file(split: str) -> str:
    """Return the name of the file with the results of held-out rows; ``split`` is ``dev`` or ``test``."""
    return f"{split}.jsonl"


def pairs_file(split: str) -> str:
    """Return the name of the file with the results of held-out pairs; ``split`` is ``dev`` or ``test``."""
    return f"{PAIRS_PREFIX}{split}.jsonl"


def base_file(name: str) -> str:
    """Return the name of the file with the base model's results. ``name`` is the file with the artifact's
    results on the same cases."""
    return f"base-{name}"


def published_file(version: str, name: str) -> str:
    """Return the name of the file with the results of a published version that the final gate judged again.
    ``name`` is the file with the artifact's results on the same cases."""
    return f"{version}-{name}"


def endpoint_file(gate: str) -> str:
    """Return the name of the file with the results of a gate's endpoint, one case per line."""
    return f"endpoint-{golden_file(gate)}"


def error_rate_file(gate: str, run: str) -> str:
    """Return the path, below the folder of the final gate, of the file with the results of one evaluation
    that measures a gate's error rate, such as ``repeat 1``."""
    return f"error-rate/{gate}/{run.replace(' ', '-')}.json"


class Workspace:
    """Paths on the storage volume, relative to its root. Each job has a folder, whose name is the job's
    UID. The other folders are shared by the jobs of the volume."""

    root = PurePosixPath(RESERVED)
    jobs = root / "jobs"
    models = root / "models"
    """Resolved models. Only the data role writes to it."""
    baselines = root / "baselines"
    """Cached results of models. Each is used only if the operator recorded its digest."""

    def __init__(self, uid: str) -> None:
        self.job = self.jobs / uid
        self.data = self.job / "data"
        self.review_sample = self.data / REVIEW_SAMPLE
        self.download = self.job / "download"
        """Files that are being downloaded. A file is moved to its final folder when its download is
        complete."""
        self.evals = self.job / "evals"
        self.gate = self.job / "gate"
        self.model = self.job / "model"
        self.report = self.job / "report.html"
        self.outbox = self.job / "outbox"
        self.tracking = self.job / "tracking"

    def case_set(self, name: str, gate: str) -> PurePosixPath:
        """Return the copy of a gate's golden set or safety set, which the data role makes if the set is at an
        address. ``name`` is ``golden`` or ``safety``."""
        return self.data / name / f"{gate}.jsonl"

    def server_answers(self, digest: str) -> PurePosixPath:
        """Return the file with the answers and faults of a judge model or a guardrail of gates, one a line.
        ``digest`` identifies the server and what it is asked."""
        return self.job / "judges" / f"{digest}.jsonl"

    @classmethod
    def base_model(cls, digest: str) -> PurePosixPath:
        """Return the folder of a resolved model, which all jobs on the volume share."""
        return cls.models / digest

    @classmethod
    def source(cls, key: str) -> PurePosixPath:
        """Return the file that records which model was downloaded from a source. ``key`` identifies the
        source."""
        return cls.models / ".sources" / f"{key}.json"

    @classmethod
    def baseline(cls, key: str) -> PurePosixPath:
        """Return the file with the cached results of a model. ``key`` identifies the model, the cases and how
        they were evaluated."""
        return cls.baselines / f"{key}.json"

    def stage(self, stage: str) -> PurePosixPath:
        return self.job / "stages" / stage

    def checkpoint(self, stage: str, step: int) -> PurePosixPath:
        """Return the folder of a checkpoint. The folder exists only if the checkpoint is complete and
        hashed."""
        return self.stage(stage) / f"step-{step:06d}"

    def merged(self, stage: str) -> PurePosixPath:
        """Return the folder of the merged model that a stage started from, see
        :attr:`StagePlan.starts_from`."""
        return self.stage(stage) / "base"

    def evaluation(self, stage: str, step: int) -> PurePosixPath:
        """Return the folder with the outputs and outcomes of one checkpoint, one line per case. Step 0 is the
        starting model."""
        return self.evals / stage / f"step-{step:06d}"
