"""Fetch models and data files from other machines: hubs, object stores and registries.

Each scheme has a module that lists files and reads a file from any byte offset. :mod:`download` does the rest
for all schemes: it resumes interrupted downloads, and keeps only verified files. :data:`SCHEMES` is the table
of schemes. To add one, write a module with the functions of :class:`RemoteModels`, :class:`RemoteFiles` or
both, and add a line to the table.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from tunegate_api.contract.digests import sha256_text
from tunegate_trainer.fetch.address import Address, Choose, RemoteFile, RemoteFolder, RemoteModel
from tunegate_trainer.fetch.download import download


class RemoteModels(Protocol):
    """A scheme for models. Each scheme is a module of this package."""

    def pinned(self, address: Address) -> str | None:
        """Return the commit in ``model.revision`` or the digest in the model's URI. Returns None if the
        address names neither."""
        ...

    def find_model(self, address: Address, choose: Choose) -> RemoteModel:
        """Ask the server for the files of a model. ``choose`` selects the needed ones by name.

        Raises the errors that :class:`Address` creates, :class:`UnreachableError` and :class:`UserError`.
        """
        ...


class RemoteFiles(Protocol):
    """A scheme for data files. Each scheme is a module of this package."""

    def find_data(self, address: Address) -> RemoteFile | RemoteFolder:
        """Ask the server for a file, or for the files of a folder. Raises the same errors as
        :meth:`RemoteModels.find_model`."""
        ...


@dataclass(frozen=True)
class Scheme:
    """An entry in the table of schemes."""

    models: Callable[[], RemoteModels] | None = None
    """Returns the scheme's module. It is imported when it is first needed, because importing the S3 client
    takes half a second. None if the scheme has only data files."""
    files: Callable[[], RemoteFiles] | None = None
    """Like ``models``, but returns the module for data files. None if the scheme has only models."""


def _module(name: str) -> Callable[[], Any]:
    """Return a function that imports a module of this package."""
    return lambda: import_module(f"{__name__}.{name}")


Schemes = Mapping[str, Scheme]

SCHEMES: Schemes = {
    "hf": Scheme(models=_module("hub"), files=_module("hub")),
    "s3": Scheme(models=_module("s3"), files=_module("s3")),
    "oci": Scheme(models=_module("oci")),
    "https": Scheme(files=_module("web")),
    "http": Scheme(files=_module("web")),
}
"""All remote schemes. The schemes pvc://, file:// and package:// are local, so they are not in this table."""


def pinned(address: Address, schemes: Schemes = SCHEMES) -> str | None:
    """Return the commit in ``model.revision`` or the digest in the model's URI. Returns None if the address
    names neither."""
    return _models(address, schemes).pinned(address)


def find_model(address: Address, choose: Choose, schemes: Schemes = SCHEMES) -> RemoteModel:
    """Ask the server for the files of a model. ``choose`` selects the needed ones by name."""
    return _models(address, schemes).find_model(address, choose)


def fetch_model(address: Address, model: RemoteModel, folder: Path) -> Path:
    """Download a model into ``folder``. Return the folder of the model's files, which may be below it."""
    download(address.field, model.files, folder)
    return model.unpack(folder)


def has_files(address: Address, schemes: Schemes = SCHEMES) -> bool:
    """Return whether data files can be fetched with the scheme of this address."""
    return address.scheme in schemes and schemes[address.scheme].files is not None


def fetch_data(address: Address, folder: Path, schemes: Schemes = SCHEMES) -> Path:
    """Download a file, or the files of a folder, into a sub-folder of ``folder``, and remove everything else
    in ``folder``. Return the path of the file or folder."""
    found = _files(address, schemes).find_data(address)
    target = folder / f"version-{sha256_text(found.version)[:16]}"
    remove_others(folder, target)
    if isinstance(found, RemoteFolder):
        download(address.field, found.files, target)
        return target
    download(address.field, [found], target)
    return target / found.name


def remove_others(downloads: Path, keep: Path) -> None:
    """Remove the downloads of other versions: everything in the folder ``downloads`` except ``keep``."""
    for other in downloads.glob("*"):
        if other != keep:
            shutil.rmtree(other, ignore_errors=True)


def _models(address: Address, schemes: Schemes) -> RemoteModels:
    source = schemes[address.scheme].models
    if source is None:
        raise address.wrong(f"{address.scheme}:// is supported for data files, but not for models")
    return source()


def _files(address: Address, schemes: Schemes) -> RemoteFiles:
    source = schemes[address.scheme].files
    if source is None:
        raise address.wrong(f"{address.scheme}:// is supported for models, but not for data files")
    return source()
