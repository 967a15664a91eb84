"""What a publish target is, and what is published to it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tunegate_api.contract import FileManifest, GateRequest
from tunegate_api.published import PublishedVersion
from tunegate_trainer.process.epoch import Writer


def version_name(job: str, uid: str) -> str:
    """The name of a job's version at every target: another job with the same name has another one."""
    return f"{job}-{uid[:5]}"


@dataclass(frozen=True)
class Version:
    """What is to be published."""

    name: str
    artifact: Path
    manifest: FileManifest
    """Which bytes passed: exactly these are copied, or nothing appears."""
    describe: Callable[[Path], None]
    """Adds evidence and model card to the copy."""
    is_described: Callable[[Path], bool]
    """Whether a version that is there already has that evidence, and may stay."""


class Target(Protocol):
    """One address that versions are published to, in an order that all its publishers share.

    Every method raises :class:`StorageError` if the target cannot be read or written now. Those that write
    raise :class:`Superseded` if another process became the writer.
    """

    @property
    def name(self) -> str:
        """Names the target in messages."""
        ...

    def contains(self, version: str) -> bool:
        """Return whether ``version`` is recorded as published."""
        ...

    def upload(self, version: Version, writer: Writer) -> None:
        """Put ``version`` there, whole or not at all. An undamaged version of the same artifact stays.

        Raises :class:`UserError` if the version's name belongs to another artifact.
        """
        ...

    def set_stable(self, version: Version, after: int | None, writer: Writer) -> bool:
        """Record the uploaded ``version`` as the publication that follows number ``after``, and make it the
        one that ``latest`` names. None for ``after``: it is recorded already.

        Returns False, and records nothing, if another publication has followed ``after``.
        """
        ...

    def read_stable(self) -> int:
        """Return the number of the last publication; 0 before the first."""
        ...

    def newest_versions(self, gates: Sequence[GateRequest], own: str) -> dict[str, PublishedVersion]:
        """Return, by gate, the newest version with evidence of that gate and its golden set, without
        ``own``."""
        ...

    def take_away(self, version: Version, writer: Writer) -> None:
        """Remove what was uploaded of ``version`` and is not recorded."""
        ...
