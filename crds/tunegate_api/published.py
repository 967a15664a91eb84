"""The published version that is the baseline LastPublished."""

from tunegate_api.meta import Mapped, Sha256, StatusModel


class PublishedVersion(StatusModel):
    """The last version that was published through a gate. It comes from the EvalGate's record when the job
    starts, or from the evidence beside the version when the artifact is judged."""

    job: str
    golden_sha256: Sha256
    outcomes: str
    """One letter per golden case. Derived from the counts if the outcome of each case is not known."""
    version: str | None = None
    """Address of the version. None if it comes from the EvalGate's record."""
    digest: Sha256 | None = None
    """Digest of the artifact. None if it comes from the EvalGate's record."""
    problem: str | None = None
    """Why the evidence cannot be used. The verdict of a gate that compares with it is Error."""


class LastPublished(StatusModel):
    """The published versions that were found when the publish targets were last read."""

    reading: int
    """Number of the reading. It increases each time the targets have changed; the reading with the highest
    number replaces earlier ones."""
    versions: Mapped[PublishedVersion] = {}
    """The version that the artifact is compared with, by name of the gate. A gate that is missing uses the
    record in its request."""
