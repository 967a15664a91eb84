"""The files of a model out of the layers of an artifact."""

import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from tunegate_trainer.data.fetch.address import Address
from tunegate_trainer.data.model_files import may_be_needed
from tunegate_trainer.errors import BadDataError
from tunegate_trainer.files import take

_FOLDER = "unpacked"
_CONFIG = "config.json"
_WEIGHTS = (".safetensors", ".gguf")


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


def unpack(address: Address, layers: Sequence[Layer], folder: Path) -> Path:
    """Make the model's files of the layers that lie in ``folder``, in a folder below it, which is returned.

    Raises :class:`BadDataError` for an archive that is damaged, or that would write elsewhere.
    """
    into = folder / _FOLDER
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir()
    for layer in layers:
        if layer.is_archive:
            _extract(address, folder / layer.file_name, into)
        else:
            target = into / layer.path
            target.parent.mkdir(parents=True, exist_ok=True)
            take(folder / layer.file_name, target)
    found = [path.relative_to(into) for path in into.rglob("*") if path.is_file()]
    return into / model_folder(found)


def model_folder(paths: Sequence[PurePath]) -> PurePath:
    """The folder that holds a model: of the config.json that is nearest to the root, or else of weights."""

    def nearest(candidates: Sequence[PurePath]) -> PurePath | None:
        return min(candidates, key=lambda path: (len(path.parts), path), default=None)

    config = nearest([path for path in paths if path.name == _CONFIG])
    weights = nearest([path for path in paths if path.suffix in _WEIGHTS])
    return (config or weights or PurePath(_CONFIG)).parent


def _extract(address: Address, archive: Path, into: Path) -> None:
    """The regular files of an archive that may be a model's. Links and devices are none."""
    try:
        with tarfile.open(archive, "r|*") as members:
            for member in members:
                path = PurePosixPath(member.name)
                if path.is_absolute() or ".." in path.parts:
                    raise BadDataError(
                        f"{address.field}: an archive in {address.uri} would write to {member.name}",
                        "it is not to be trusted",
                    )
                content = members.extractfile(member) if member.isreg() else None
                if content is None or not may_be_needed(path.name):
                    continue
                target = into / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as file:
                    shutil.copyfileobj(content, file, 1 << 20)
    except (tarfile.TarError, EOFError) as error:
        raise BadDataError(
            f"{address.field}: a layer of {address.uri} is no whole tar archive", "push the artifact again"
        ) from error
