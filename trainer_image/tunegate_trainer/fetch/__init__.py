"""Models and data files from other machines: hubs, object stores and registries.

Each scheme has a module that says which files there are and how to read one from any byte on; all else is
done once, in :mod:`download`: it goes on where it was broken off, and keeps nothing that is not verified.
:data:`SCHEMES` is the table of them. To add one, write a module like :class:`RemoteFiles`, and a line there.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from tunegate_api.contract import sha256_text
from tunegate_trainer.fetch.address import Address, Choose, RemoteFile, RemoteModel
from tunegate_trainer.fetch.download import download


class RemoteModels(Protocol):
    """Where models are, by one scheme. Each is a module of this package."""

    def pinned(self, address: Address) -> str | None:
        """Return what identifies the content of a model for ever, where the spec itself has it: a commit, a
        digest."""
        ...

    def find_model(self, address: Address, choose: Choose) -> RemoteModel:
        """Ask which files there are. ``choose`` picks the ones that are needed, by name.

        Raises what :class:`Address` makes of refusals, :class:`UnreachableError` and :class:`UserError`.
        """
        ...


class RemoteFiles(RemoteModels, Protocol):
    """Where models and data files are, by one scheme."""

    def find_file(self, address: Address) -> RemoteFile:
        """Ask for one file. Raises the same errors."""
        ...


@dataclass(frozen=True)
class Scheme:
    """How addresses with one scheme are read."""

    models: Callable[[], RemoteModels]
    """Loads the module, when it is needed: the client for S3 takes half a second."""
    files: Callable[[], RemoteFiles] | None = None
    """The same, where data files can be read; None where there are only models."""


def _module(name: str) -> Callable[[], Any]:
    """Return what loads a module of this package."""
    return lambda: import_module(f"{__name__}.{name}")


Schemes = Mapping[str, Scheme]

SCHEMES: Schemes = {
    "hf": Scheme(models=_module("hub"), files=_module("hub")),
    "s3": Scheme(models=_module("s3"), files=_module("s3")),
    "oci": Scheme(models=_module("oci")),
}
"""Every scheme of another machine. pvc://, file:// and package:// are on this one."""


def pinned(address: Address, schemes: Schemes = SCHEMES) -> str | None:
    """What identifies the content of a model for ever, where the spec itself says it: a commit, a digest."""
    return _models(address, schemes).pinned(address)


def find_model(address: Address, choose: Choose, schemes: Schemes = SCHEMES) -> RemoteModel:
    """Ask what there is. ``choose`` picks the files that are needed, by name."""
    return _models(address, schemes).find_model(address, choose)


def fetch_model(address: Address, model: RemoteModel, folder: Path) -> Path:
    """Download into ``folder``, and return the one below it that holds the model's files."""
    download(address.field, model.files, folder)
    return model.unpack(folder)


def has_files(address: Address, schemes: Schemes = SCHEMES) -> bool:
    """Whether data files can be fetched from such an address."""
    return address.scheme in schemes and schemes[address.scheme].files is not None


def fetch_file(address: Address, folder: Path, schemes: Schemes = SCHEMES) -> Path:
    """Download one file into a folder below ``folder``, which holds nothing else."""
    file = _files(address, schemes).find_file(address)
    here = folder / f"version-{sha256_text(file.version)[:16]}"
    remove_others(folder, here)
    download(address.field, [file], here)
    return here / file.name


def remove_others(downloads: Path, wanted: Path) -> None:
    """Remove what was downloaded of other versions of the same thing."""
    for other in downloads.glob("*"):
        if other != wanted:
            shutil.rmtree(other, ignore_errors=True)


def _models(address: Address, schemes: Schemes) -> RemoteModels:
    return schemes[address.scheme].models()


def _files(address: Address, schemes: Schemes) -> RemoteFiles:
    source = schemes[address.scheme].files
    if source is None:
        raise address.wrong(f"{address.scheme}:// has only models, no data files")
    return source()
