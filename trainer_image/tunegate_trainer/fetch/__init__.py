"""Fetch models and data files from other machines: hubs, object stores and registries.

Each scheme has a module that lists files and reads a file from any byte offset. :mod:`download` does the rest
for all schemes: it resumes interrupted downloads, and keeps only verified files. To add a scheme, write a
module with the functions of :class:`RemoteModels`, :class:`RemoteFiles` or both, and add a line to the table
:data:`MODEL_SCHEMES`, :data:`DATA_SCHEMES` or both.
"""

import shutil
from collections.abc import Callable
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


def _module(name: str) -> Callable[[], Any]:
    """Return a function that imports a module of this package when it is first needed, because importing the
    S3 client takes half a second."""
    return lambda: import_module(f"{__name__}.{name}")


MODEL_SCHEMES: dict[str, Callable[[], RemoteModels]] = {
    "hf": _module("hub"),
    "s3": _module("s3"),
    "oci": _module("oci"),
}
"""The remote schemes of models. The schemes pvc://, file:// and package:// are local."""
DATA_SCHEMES: dict[str, Callable[[], RemoteFiles]] = {
    "hf": _module("hub"),
    "s3": _module("s3"),
    "https": _module("web"),
    "http": _module("web"),
}
"""The remote schemes of data files. The schemes pvc:// and file:// are local."""


def pinned(address: Address) -> str | None:
    """Return the commit in ``model.revision`` or the digest in the model's URI. Returns None if the address
    names neither."""
    return MODEL_SCHEMES[address.scheme]().pinned(address)


def find_model(address: Address, choose: Choose) -> RemoteModel:
    """Ask the server for the files of a model. ``choose`` selects the needed ones by name."""
    return MODEL_SCHEMES[address.scheme]().find_model(address, choose)


def fetch_model(address: Address, model: RemoteModel, folder: Path) -> Path:
    """Download a model into ``folder``. Return the folder of the model's files, which may be below it."""
    download(address.field, model.files, folder)
    return model.unpack(folder)


def fetch_data(address: Address, folder: Path) -> Path:
    """Download a file, or the files of a folder, into a sub-folder of ``folder``, and remove everything else
    in ``folder``. Return the path of the file or folder."""
    found = DATA_SCHEMES[address.scheme]().find_data(address)
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
