"""The types for the baseline LastPublished: the published versions that a model is compared with."""

from tunegate_api.meta import Mapped, Sha256, StatusModel


class PublishedVersion(StatusModel):
    """The last version that was published through a gate. When a job starts, it is read from the status of
    the EvalGate. When the artifact is judged, it is read from the evidence that is stored with the
    version."""

    job: str
    golden_sha256: Sha256
    outcomes: str
    """One letter per golden case. If only the numbers of passed and failed cases are known, the letters
    match these numbers, but do not show which case passed."""
    by_case: bool = False
    """Whether ``outcomes`` shows which case passed."""
    version: str | None = None
    """Address of the version. None if the version comes from the EvalGate's record."""
    digest: Sha256 | None = None
    """Digest of the artifact. None if the version comes from the EvalGate's record."""
    rejudged: bool = False
    """Whether the final gate of this job evaluated the version again, because the version was not published
    through this gate with this golden set."""
    unjudged: bool = False
    """Whether the version still has to be evaluated on this golden set. Then ``problem`` is set."""
    problem: str | None = None
    """Why a comparison is not possible. None if it is possible. If this is set, a comparison with the version
    has the verdict Error."""


class LastPublished(StatusModel):
    """The published versions that were found when the publish targets were last read."""

    reading: int
    """Number of the reading. A reading gets a higher number if the targets have changed since the last
    reading. The reading with the highest number replaces all others."""
    versions: Mapped[PublishedVersion] = {}
    """Maps the name of a gate to the version that the artifact is compared with. For a gate without an entry,
    the version in the request is used."""
