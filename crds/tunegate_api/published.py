"""The version that an artifact is compared with as the baseline LastPublished."""

from tunegate_api.meta import Mapped, Sha256, StatusModel


class PublishedVersion(StatusModel):
    """The version last published through a gate: as the EvalGate's record has it when the job starts, or as
    the evidence beside the version has it when the artifact is judged."""

    job: str
    golden_sha256: Sha256
    outcomes: str
    """One letter a golden case. Made up from its counts where only those are known."""
    version: str | None = None
    """The address of the version; None if it comes from the EvalGate's record."""
    digest: Sha256 | None = None
    """The digest of the artifact; None if it comes from the EvalGate's record."""
    problem: str | None = None
    """Why the evidence cannot be used. The gate that compares with it is an Error."""


class LastPublished(StatusModel):
    """What the publish targets held when they were last read."""

    reading: int
    """Rises each time the targets are read and hold something else: the highest replaces earlier readings."""
    versions: Mapped[PublishedVersion] = {}
    """Gate name to the version that the artifact is compared with. A gate that is missing here uses the
    record in its request."""
