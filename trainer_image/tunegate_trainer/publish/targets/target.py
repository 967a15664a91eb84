"""The interface of publish targets, and the version that is published to them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tunegate_api.contract import FileManifest, GateRequest
from tunegate_api.published import PublishedVersion
from tunegate_trainer.process.epoch import Writer


def version_name(job: str, uid: str) -> str:
    """Return the name of a job's version. It differs between jobs of the same name, by the uid."""
    return f"{job}-{uid[:5]}"


@dataclass(frozen=True)
class Version:
    """A version to publish."""

    name: str
    artifact: Path
    manifest: FileManifest
    """The digests of the files that passed. Exactly these files are published, or nothing."""
    describe: Callable[[Path], None]
    """Adds the evidence and the model card to the copy in a folder."""
    is_described: Callable[[Path], bool]
    """Returns whether an existing version has the same evidence, so that it can be kept."""


class Target(Protocol):
    """An address that versions are published to, with a numbered history that all its publishers share.

    Every method raises :class:`StorageError` if the target cannot be read or written. Methods that write
    raise :class:`Superseded` if another process became the writer.
    """

    @property
    def name(self) -> str:
        """The name of the target in messages."""
        ...

    def contains(self, version: str) -> bool:
        """Return whether ``version`` is recorded as published."""
        ...

    def upload(self, version: Version, writer: Writer) -> None:
        """Upload ``version``, completely or not at all. An undamaged version of the same artifact is kept.

        Raises :class:`UserError` if the version's name belongs to another artifact.
        """
        ...

    def set_stable(self, version: Version, after: int | None, writer: Writer) -> bool:
        """Record the uploaded ``version`` as the publication after number ``after``, and update ``latest``.

        ``after`` is None if the version is already recorded. Returns False and records nothing if there
        already is a publication after ``after``.
        """
        ...

    def read_stable(self) -> int:
        """Return the number of the last publication, or 0 before the first."""
        ...

    def newest_versions(self, gates: Sequence[GateRequest], own: str) -> dict[str, PublishedVersion]:
        """Return, by gate, the newest version with evidence of that gate and its golden set.

        ``own``, the job's own version, is ignored.
        """
        ...

    def withdraw(self, version: Version, writer: Writer) -> None:
        """Remove the uploaded files of ``version``, which is not recorded."""
        ...
