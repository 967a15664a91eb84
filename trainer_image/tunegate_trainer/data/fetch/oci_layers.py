"""The files of a model out of the layers of an artifact."""

import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tunegate_trainer.data.fetch.address import Address
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
    name: str
    """Of the file that it is; of an archive, if at all, of the folder in it."""
    is_archive: bool

    @property
    def file_name(self) -> str:
        """Its name on the volume: that of a file could be anybody's."""
        return self.digest.replace(":", "-")

    @property
    def is_weights(self) -> bool:
        return self.name.endswith(_WEIGHTS)


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
            take(folder / layer.file_name, into / layer.name)
    return _model_folder(into)


def _extract(address: Address, archive: Path, into: Path) -> None:
    """The regular files of an archive. Links, devices and owners are nothing that a model needs."""
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
                if content is None:
                    continue
                target = into / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as file:
                    shutil.copyfileobj(content, file, 1 << 20)
    except (tarfile.TarError, EOFError) as error:
        raise BadDataError(f"{address.field}: a layer of {address.uri} is no whole tar archive") from error


def _model_folder(folder: Path) -> Path:
    """The folder with a config.json that is nearest to the root; ``folder`` itself where there is none."""
    found = sorted(folder.rglob(_CONFIG), key=lambda path: (len(path.parts), path))
    weights = sorted(folder.rglob("*.gguf"), key=lambda path: (len(path.parts), path))
    nearest = next(iter([*found, *weights]), None)
    return nearest.parent if nearest is not None else folder
