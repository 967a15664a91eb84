"""The types that all schemes share: an address in the spec, and the remote files at it."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tunegate_api.contract.plan import ModelLicense
from tunegate_api.contract.workspace import Workspace
from tunegate_api.file_uri import file_path
from tunegate_api.meta import RESERVED
from tunegate_trainer.fetch.checksum import Checksum
from tunegate_trainer.process.credentials import Secret
from tunegate_trainer.process.errors import CredentialsError, SourceNotFoundError, UserError

Choose = Callable[[Sequence[str]], list[str]]
"""Selects the needed files from a list of names. Raises :class:`TrainerError` if the listed files are not a
model."""


@dataclass(frozen=True)
class Address:
    """A ``uri`` in the spec, with its revision and credentials."""

    field: str
    """The field of the spec, such as ``model.uri``, which errors name. If empty, errors name only the URI."""
    uri: str
    revision: str | None = None
    secret: Secret | None = None
    """The credentials. None if the client libraries are to find them in the environment."""

    @property
    def scheme(self) -> str:
        return self.uri.partition("://")[0]

    @property
    def rest(self) -> str:
        return self.uri.partition("://")[2]

    @property
    def has_parent_part(self) -> bool:
        """Whether the path of the address has a part ``..``, with which it could leave its folder."""
        path = file_path(self.uri) if self.scheme == "file" else PurePosixPath(self.rest)
        return ".." in path.parts

    def on_volume(self, root: Path) -> Path:
        """Return the path of ``pvc://CLAIM/PATH`` below ``root``.

        Raises :class:`UserError` for a path that leaves its claim or leads into the reserved folder, and for
        an address without a claim.
        """
        if self.has_parent_part:
            raise self.wrong("the path must not contain ..")
        claim, _, path = self.rest.partition("/")
        if not claim:
            raise self.wrong("name the claim, as in pvc://CLAIM/PATH")
        # A volume may ignore case.
        inside = PurePosixPath(path.lstrip("/"))
        if inside.parts[:1] and inside.parts[0].casefold() == RESERVED:
            raise self._reserved()
        found = volume_folder(root, claim) / inside
        self.refuse_reserved(root, found)
        return found

    def refuse_reserved(self, root: Path, path: Path) -> None:
        """Raise :class:`UserError` if ``path`` leads into the reserved folder of a mounted claim, for example
        through a symbolic link."""
        try:
            real = path.resolve()
        except (OSError, RuntimeError):  # Python before 3.13 raises RuntimeError
            raise self.wrong("the path leads through a loop of symbolic links") from None
        for reserved in _reserved_folders(root):
            if any(parent.exists() and parent.samefile(reserved) for parent in (real, *real.parents)):
                raise self._reserved()

    def _reserved(self) -> UserError:
        return self.wrong(
            f"the path leads into the folder {RESERVED} of a claim, where Tunegate keeps the files of jobs",
            "use a path outside this folder",
        )

    def on_machine(self, example: str) -> Path:
        """Return the path of ``file://PATH``. If it is relative, raise :class:`UserError` with ``example``,
        an address with an absolute path."""
        if not self.rest.startswith("/"):
            raise self.wrong(f"the path must be absolute, as in {example}")
        path = file_path(self.uri)
        if "\0" in str(path):
            raise self.wrong("a path has no character %00")
        return path

    def not_found(self, what: str, hint: str = "") -> SourceNotFoundError:
        return SourceNotFoundError(f"{self.field}: {what}", hint)

    def wrong(self, what: str, hint: str = "") -> UserError:
        where = f"{self.field}: {self.uri}" if self.field else self.uri
        return UserError(f"{where}: {what}", hint)

    def refused(self, reason: str, hint: str = "") -> CredentialsError:
        """Return the error for a server that refuses access. ``reason`` must not contain a secret.

        The default ``hint`` asks the user to check or set the credentials.
        """
        hint = hint or self._credentials_hint
        return CredentialsError(f"{self.field}: {self.uri} refuses access: {reason}", hint)

    @property
    def _credentials_hint(self) -> str:
        if self.secret is not None:
            return f"check that the credentials in Secret {self.secret.name} are valid for this address"
        return (
            f"set {self.field.removesuffix('.uri')}.secretName to a Secret with credentials for this address"
        )


def volume_folder(root: Path, claim: str) -> Path:
    """Return the folder of the claim in a URI, where :mod:`tunegate_api.contract` documents it."""
    return root / "volumes" / claim


def _reserved_folders(root: Path) -> Iterator[Path]:
    """Yield the existing reserved folders of the claims that are mounted below ``root``.

    On a laptop, the folders of the workspace are links into the folder of the storage claim.
    """
    yield from (root / "volumes").glob(f"*/{RESERVED}")
    yield from (root / "workspace").glob(RESERVED)
    for job in (root / "workspace").glob(f"{Workspace.jobs}/*"):
        yield job.resolve().parent.parent


@dataclass(frozen=True)
class Stream:
    """The content of a remote file from the byte at offset ``start``."""

    start: int
    """The offset of the first byte. It is 0 if the server sends only whole files."""
    chunks: Iterator[bytes]


@dataclass(frozen=True)
class RemoteFile:
    """A file on another machine."""

    name: str
    """Its local name. In a :class:`RemoteFolder`, its path in the folder, else a name without folders."""
    size: int
    """Size in bytes."""
    checksum: Checksum | None
    """The checksum of the file's content. None if the server reports no checksum of a supported kind."""
    read: Callable[[int], AbstractContextManager[Stream]] = field(compare=False)
    """Opens the content at a byte offset. Raises :class:`TransientError` for errors that a retry may fix."""
    version: str = ""
    """The server's identifier of this content, such as an ETag, for schemes without revisions."""


@dataclass(frozen=True)
class RemoteFolder:
    """A folder with the files of a data set on another machine."""

    files: tuple[RemoteFile, ...]

    @property
    def version(self) -> str:
        """Identifier of this content, so that a download is resumed only with the same files."""
        return _listing_digest(self.files)


def _listing_digest(files: Sequence[RemoteFile]) -> str:
    listed = sorted([file.name, file.size, str(file.checksum), file.version] for file in files)
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def _unchanged(folder: Path) -> Path:
    return folder


@dataclass(frozen=True)
class RemoteModel:
    """The needed files of a model on another machine."""

    files: tuple[RemoteFile, ...]
    revision: str | None = None
    """The commit or digest of the model, if the scheme has one."""
    license: ModelLicense | None = None
    """The license that the server reports."""
    unpack: Callable[[Path], Path] = field(default=_unchanged, compare=False)
    """Unpacks the downloaded files into a sub-folder, and returns the folder of the model's files."""

    @property
    def pin(self) -> str:
        """Identifier of this content: the revision, or else a digest of the files' names, sizes, checksums
        and versions."""
        return self.revision or _listing_digest(self.files)
