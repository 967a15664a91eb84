"""The files of a model out of the layers of an artifact."""

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
from tunegate_trainer.process.files import take

_FOLDER = "unpacked"
_CONFIG = "config.json"
_WEIGHTS = (".safetensors", ".gguf")
_PUSH_AGAIN = "push the artifact again"


@dataclass(frozen=True)
class Layer:
    """A blob of an artifact."""

    digest: str
    size: int
    path: PurePosixPath
    """Of the file that it is, in the model's folder or one below; of an archive it says nothing."""
    is_archive: bool

    @property
    def file_name(self) -> str:
        """Its name on the volume: that of a file could be anybody's."""
        return self.digest.replace(":", "-")

    @property
    def is_weights(self) -> bool:
        return not self.is_archive and self.path.suffix in _WEIGHTS


def check_paths(address: Address, layers: Sequence[Layer]) -> None:
    """Raise :class:`BadDataError` where two layers are one file of the model."""
    paths = Counter(layer.path for layer in layers if not layer.is_archive)
    for path, count in paths.items():
        if count > 1:
            raise _two_layers(address, path)


def unpack(address: Address, layers: Sequence[Layer], folder: Path) -> Path:
    """Make the model's files of the layers that lie in ``folder``, in a folder below it, which is returned.

    A later archive replaces files of an earlier one, as in an image. Raises :class:`BadDataError` for an
    archive that is damaged, that would write elsewhere, or over the file that another layer is, and
    :class:`StorageError` where the volume has no room for its files. Then nothing is left of them.
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
                take(folder / layer.file_name, target)
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        path = Path(error.filename2 or error.filename).relative_to(into)  # of a link, the second is new
        raise BadDataError(
            f"{address.field}: {address.uri} has a file and a folder at {path}", _PUSH_AGAIN
        ) from error


def _two_layers(address: Address, path: PurePath) -> BadDataError:
    return BadDataError(
        f"{address.field}: {address.uri} has two layers for {path}",
        "it is unclear which one belongs to the model: push the artifact again with only one of them",
    )


def model_folder(paths: Sequence[PurePath]) -> PurePath:
    """The folder that holds a model: of the config.json that is nearest to the root, or else of weights."""

    def nearest(candidates: Sequence[PurePath]) -> PurePath | None:
        return min(candidates, key=lambda path: (len(path.parts), path), default=None)

    config = nearest([path for path in paths if path.name == _CONFIG])
    weights = nearest([path for path in paths if path.suffix in _WEIGHTS])
    return (config or weights or PurePath(_CONFIG)).parent


def _extract(address: Address, archive: Path, into: Path, whole_files: Collection[PurePath]) -> None:
    """The regular files of an archive that may be a model's. Links and devices are none. None may be one of
    ``whole_files``, which are other layers."""
    try:
        with tarfile.open(archive, "r|*") as members:
            for member in members:
                path = PurePosixPath(member.name)
                if path.is_absolute() or ".." in path.parts:
                    raise BadDataError(
                        f"{address.field}: an archive in {address.uri} would write to {member.name}",
                        "do not trust this artifact",
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
    """Raise unless the volume holds a file of an archive: what was checked before is its compressed size."""
    free = shutil.disk_usage(into).free
    if member.size > free:
        raise StorageError(
            f"{address.field}: {member.name} in an archive of {address.uri} unpacks to "
            f"{gigabytes(member.size)}, but the volume has {gigabytes(free)} free",
            "grow the volume, or free space on it",
        )
