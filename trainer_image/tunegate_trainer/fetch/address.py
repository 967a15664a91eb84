"""What the schemes have in common: an address in the spec, and the files found there."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tunegate_api.plan import ModelLicense
from tunegate_trainer.fetch.checksum import Checksum
from tunegate_trainer.process.credentials import Secret
from tunegate_trainer.process.errors import CredentialsError, SourceNotFoundError, UserError

Choose = Callable[[Sequence[str]], list[str]]
"""Picks what is needed out of the names of files; raises :class:`TrainerError` for what is no model."""


@dataclass(frozen=True)
class Address:
    """A ``uri`` of the spec, and what is said beside it."""

    field: str
    """Where it stands in the spec, as errors say it: ``model.uri``. Empty where the URI alone says it."""
    uri: str
    revision: str | None = None
    secret: Secret | None = None
    """The credentials; None where the libraries shall look for the environment's."""

    @property
    def scheme(self) -> str:
        return self.uri.partition("://")[0]

    @property
    def rest(self) -> str:
        return self.uri.partition("://")[2]

    @property
    def has_parent_part(self) -> bool:
        """Whether its path has a ``..``, which could lead out of its folder."""
        return ".." in PurePosixPath(self.rest).parts

    def on_volume(self, root: Path) -> Path:
        """The path of ``pvc://CLAIM/PATH`` below ``root``.

        Raises :class:`UserError` for a path that leaves its claim, and for one without a claim.
        """
        if self.has_parent_part:
            raise self.wrong("a path must not contain ..")
        if not self.rest.partition("/")[0]:
            raise self.wrong("name the claim, as in pvc://CLAIM/PATH")
        return root / "volumes" / self.rest

    def on_machine(self, example: str) -> Path:
        """The path of ``file://PATH``. Raises :class:`UserError` with ``example`` for a relative one."""
        if not self.rest.startswith("/"):
            raise self.wrong(f"the path must be absolute, as in {example}")
        return Path(self.rest)

    def not_found(self, what: str, hint: str = "") -> SourceNotFoundError:
        return SourceNotFoundError(f"{self.field}: {what}", hint)

    def wrong(self, what: str, hint: str = "") -> UserError:
        where = f"{self.field}: {self.uri}" if self.field else self.uri
        return UserError(f"{where}: {what}", hint)

    def refused(self, said: str) -> CredentialsError:
        """The other side does not let us in. ``said`` is its code or its words, and holds no secret."""
        if self.secret is not None:
            hint = f"check the credentials in Secret {self.secret.name}, and what they may read there"
        else:
            hint = f"set {self.field.removesuffix('.uri')}.secretName to a Secret with credentials for it"
        return CredentialsError(f"{self.field}: {self.uri} refuses access: {said}", hint)


@dataclass(frozen=True)
class Stream:
    """The rest of a file."""

    start: int
    """The byte it begins with: 0 where the other side only sends whole files."""
    chunks: Iterator[bytes]


@dataclass(frozen=True)
class RemoteFile:
    """A file on another machine."""

    name: str
    """The name it gets here, without folders."""
    size: int
    """Bytes."""
    checksum: Checksum | None
    """What its content must have; None where the other side names nothing that can be computed."""
    read: Callable[[int], AbstractContextManager[Stream]] = field(compare=False)
    """Its content from a byte on. Raises :class:`TransientError` for what another try may mend."""
    version: str = ""
    """What the other side calls this content, where neither checksum nor revision tell it from another."""


def _as_it_is(folder: Path) -> Path:
    return folder


@dataclass(frozen=True)
class RemoteModel:
    """The needed files of a model on another machine."""

    files: tuple[RemoteFile, ...]
    revision: str | None = None
    """The commit or digest that they belong to; None where there is none."""
    license: ModelLicense | None = None
    """What the other side says of it."""
    unpack: Callable[[Path], Path] = field(default=_as_it_is, compare=False)
    """Makes the model's files of the downloaded ones, in a folder below theirs, and returns it."""

    @property
    def pin(self) -> str:
        """What identifies this content: the revision, or a digest of names, sizes, checksums and versions."""
        if self.revision is not None:
            return self.revision
        listed = sorted([file.name, file.size, str(file.checksum), file.version] for file in self.files)
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()
