"""Unpack the files of a model from the layers of an OCI artifact."""

import shutil
import tarfile
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from tunegate_trainer.fetch.address import Address
from tunegate_trainer.fetch.download import gigabytes
from tunegate_trainer.fetch.model_files import may_be_needed
from tunegate_trainer.process.errors import BadDataError, StorageError
from tunegate_trainer.process.files import link_or_move

_FOLDER = "unpacked"
_CONFIG = "config.json"
_WEIGHTS = (".safetensors", ".gguf")
_PUSH_AGAIN = "push the artifact again"


@dataclass(frozen=True)
class Layer:
    """A layer of an artifact."""

    digest: str
    size: int
    path: PurePosixPath
    """The path of the layer's file, relative to the artifact. Meaningless for an archive."""
    is_archive: bool

    @property
    def file_name(self) -> str:
        """The layer's file name on the volume. Its title is not used, because the artifact's author chose
        the title."""
        return self.digest.replace(":", "-")

    @property
    def is_weights(self) -> bool:
        return not self.is_archive and self.path.suffix in _WEIGHTS


def check_paths(address: Address, layers: Sequence[Layer]) -> None:
    """Raise :class:`BadDataError` if two layers that each contain a single file have the same path."""
    paths = Counter(layer.path for layer in layers if not layer.is_archive)
    for path, count in paths.items():
        if count > 1:
            raise _two_layers(address, path)


def unpack(address: Address, layers: Sequence[Layer], folder: Path) -> Path:
    """Unpack the downloaded layers in ``folder`` into a sub-folder. Return the folder of the model's files.

    Later archives replace files of earlier ones, as in an image.

    Raises :class:`BadDataError` if an archive is damaged or would write outside the folder, or if a file in
    it has the same path as a layer with a single file. Raises :class:`StorageError` if the volume has no room
    for the files. After an error, no unpacked files are left.
    """
    into = folder / _FOLDER
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir()
    try:
        _put_files(address, layers, folder, into)
    except BaseException:
        shutil.rmtree(into, ignore_errors=True)
        raise
    found = [path.relative_to(into) for path in into.rglob("*") if path.is_file()]
    return into / model_folder(found)


def _put_files(address: Address, layers: Sequence[Layer], folder: Path, into: Path) -> None:
    whole_files = {layer.path for layer in layers if not layer.is_archive}
    try:
        for layer in layers:
            if layer.is_archive:
                _extract(address, folder / layer.file_name, into, whole_files)
            else:
                target = into / layer.path
                target.parent.mkdir(parents=True, exist_ok=True)
                link_or_move(folder / layer.file_name, target)
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        # For a link, filename2 is the new file.
        path = Path(error.filename2 or error.filename).relative_to(into)
        raise BadDataError(
            f"{address.field}: {address.uri} has both a file and a folder at {path}", _PUSH_AGAIN
        ) from error


def _two_layers(address: Address, path: PurePath) -> BadDataError:
    return BadDataError(
        f"{address.field}: {address.uri} has two layers with the file {path}",
        "it is unclear which file belongs to the model: push the artifact again with one of these layers",
    )


def model_folder(paths: Sequence[PurePath]) -> PurePath:
    """Return the folder of a model: the folder of the config.json that is nearest to the root, or of the
    weights nearest to the root if there is no config.json."""

    def nearest(candidates: Sequence[PurePath]) -> PurePath | None:
        return min(candidates, key=lambda path: (len(path.parts), path), default=None)

    config = nearest([path for path in paths if path.name == _CONFIG])
    weights = nearest([path for path in paths if path.suffix in _WEIGHTS])
    return (config or weights or PurePath(_CONFIG)).parent


def _extract(address: Address, archive: Path, into: Path, whole_files: Collection[PurePath]) -> None:
    """Extract the regular files of an archive that may belong to a model. Links and devices are skipped.

    ``whole_files`` are the paths of the layers with a single file. Raises :class:`BadDataError` if the
    archive is damaged, has one of these paths, or would write outside the folder.
    """
    try:
        with tarfile.open(archive, "r|*") as members:
            for member in members:
                path = PurePosixPath(member.name)
                if path.is_absolute() or ".." in path.parts:
                    raise BadDataError(
                        f"{address.field}: an archive in {address.uri} contains a file with the path "
                        f"{member.name}, which would be written outside of the model's folder",
                        "do not use this artifact: it may be malicious",
                    )
                content = members.extractfile(member) if member.isreg() else None
                if content is None or not may_be_needed(path.name):
                    continue
                if path in whole_files:
                    raise _two_layers(address, path)
                _check_room(address, member, into)
                target = into / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as file:
                    shutil.copyfileobj(content, file, 1 << 20)
    except (tarfile.TarError, EOFError) as error:
        raise BadDataError(
            f"{address.field}: a layer of {address.uri} is not a complete tar archive", _PUSH_AGAIN
        ) from error


def _check_room(address: Address, member: tarfile.TarInfo, into: Path) -> None:
    """Raise :class:`StorageError` if the volume has no room for a file of an archive.

    The check before the download knows only compressed sizes.
    """
    free = shutil.disk_usage(into).free
    if member.size > free:
        raise StorageError(
            f"{address.field}: {member.name} in an archive of {address.uri} unpacks to "
            f"{gigabytes(member.size)}, but the volume has {gigabytes(free)} free",
            "grow the volume, or free space on it",
        )
