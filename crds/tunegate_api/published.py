"""The types for published versions that a model is compared with as the baseline LastPublished."""

from tunegate_api.meta import Mapped, Sha256, StatusModel


class PublishedVersion(StatusModel):
    """The last version that was published through a gate, as recorded in the EvalGate when the job starts, or
    in the evidence stored with the version when the artifact is judged."""

    job: str
    golden_sha256: Sha256
    outcomes: str
    """One letter per golden case. If the outcome of each case is not known, the letters only reproduce the
    numbers of passed and failed cases."""
    version: str | None = None
    """Address of the version. None if the version comes from the EvalGate's record."""
    digest: Sha256 | None = None
    """Digest of the artifact. None if the version comes from the EvalGate's record."""
    problem: str | None = None
    """Why the evidence cannot be used. None if it can be used. If this is set, a comparison with the version
    has the verdict Error."""


class LastPublished(StatusModel):
    """The published versions that were found when the publish targets were last read."""

    reading: int
    """Number of the reading. A reading gets a higher number if the targets have changed since the last
    reading. The reading with the highest number replaces all others."""
    versions: Mapped[PublishedVersion] = {}
    """Maps the name of a gate to the version that the artifact is compared with. For a gate without an entry,
    the version in the request is used."""
