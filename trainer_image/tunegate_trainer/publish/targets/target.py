"""The interface of publish targets, and the version that is published to them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tunegate_api.contract.digests import FileManifest
from tunegate_api.contract.published import PublishedVersion
from tunegate_api.contract.request import GateRequest
from tunegate_trainer.process.epoch import Writer


@dataclass(frozen=True)
class Version:
    """A version to publish."""

    name: str
    artifact: Path
    manifest: FileManifest
    """The digests of the files that passed the gates. Exactly these files are published, with the
    evidence."""
    describe: Callable[[Path], None]
    """Writes the evidence and the model card to the given folder, which has a copy of the artifact."""
    is_described: Callable[[Path], bool]
    """Returns whether the version in a folder can be kept: it has the same evidence, or is already
    recorded."""


class Target(Protocol):
    """An address that versions are published to. All jobs that publish to it share its numbered history.

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
        """Upload ``version``, completely or not at all. An undamaged copy with the same evidence is kept.

        Raises :class:`UserError` if the version's name belongs to another artifact.
        """
        ...

    def set_stable(self, version: Version, after: int | None, writer: Writer) -> bool:
        """Record the uploaded ``version`` as publication number ``after`` + 1, and update ``latest``.

        ``after`` is None if the version is already recorded. Returns False and records nothing if the number
        is already taken.
        """
        ...

    def read_stable(self) -> int:
        """Return the number of the last publication, or 0 before the first."""
        ...

    def newest_versions(self, gates: Sequence[GateRequest], own: str) -> dict[str, list[PublishedVersion]]:
        """Return, by gate, the versions that the job's model is compared with, see
        :func:`tunegate_trainer.artifacts.history.newest_versions`.

        ``own``, the job's own version, is ignored.
        """
        ...

    def fetch(self, version: PublishedVersion) -> Path:
        """Return a folder with the files of ``version``, which :meth:`newest_versions` returned. The files
        must not be changed."""
        ...

    def withdraw(self, version: Version, writer: Writer) -> None:
        """Remove the uploaded files of ``version``, which is not recorded."""
        ...
