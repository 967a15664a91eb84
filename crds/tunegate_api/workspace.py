"""Where things lie on the storage volume: one folder a job uid."""

from pathlib import PurePosixPath


class Workspace:
    """Paths on the storage volume, relative to its root; one folder a job uid."""

    def __init__(self, uid: str) -> None:
        self.job = PurePosixPath(uid)
        self.data = self.job / "data"
        self.download = self.job / "download"
        """What is being downloaded, until it is whole and has its place."""
        self.evals = self.job / "evals"
        self.gate = self.job / "gate"
        self.model = self.job / "model"
        self.report = self.job / "report.html"
        self.outbox = self.job / "outbox"
        self.tracking = self.job / "tracking"

    @staticmethod
    def base_model(digest: str) -> PurePosixPath:
        """A resolved model, shared by the jobs on this volume."""
        return PurePosixPath("models") / digest

    @staticmethod
    def source(key: str) -> PurePosixPath:
        """Which model a source of this key was when it was downloaded."""
        return PurePosixPath("models") / ".sources" / f"{key}.json"

    @staticmethod
    def openings(test_sha256: str) -> PurePosixPath:
        """One file for each final gate that opened a test set, by the digest of the set's file."""
        return PurePosixPath("test-sets") / test_sha256

    def stage(self, stage: str) -> PurePosixPath:
        return self.job / "stages" / stage

    def checkpoint(self, stage: str, step: int) -> PurePosixPath:
        """A checkpoint's folder: complete and hashed, or absent."""
        return self.stage(stage) / f"step-{step:06d}"

    def merged(self, stage: str) -> PurePosixPath:
        """The merged model that a stage started from, see :attr:`StagePlan.starts_from`."""
        return self.stage(stage) / "base"

    def evaluation(self, stage: str, step: int) -> PurePosixPath:
        """Outputs and outcomes of one checkpoint, one line a case; step 0 is the starting model."""
        return self.evals / stage / f"step-{step:06d}"
