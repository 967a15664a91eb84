"""Models and data files from other machines: hubs, object stores and registries.

Each scheme has a module that says which files there are and how to read one from any byte on; all else is
done once, in :mod:`download`: it goes on where it was broken off, and keeps nothing that is not verified.
"""

import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

from tunegate_api.contract import sha256_text
from tunegate_trainer.fetch.address import Address, Choose, RemoteFile, RemoteModel
from tunegate_trainer.fetch.download import download

_MODULES = {"hf": "hub", "s3": "s3", "oci": "oci"}
MODEL_SCHEMES = ("hf", "s3", "oci")
FILE_SCHEMES = ("hf", "s3")


def pinned(address: Address) -> str | None:
    """What identifies the content of a model for ever, where the spec itself says it: a commit, a digest."""
    pin: str | None = _of(address).pinned(address)
    return pin


def find_model(address: Address, choose: Choose) -> RemoteModel:
    """Ask what there is. ``choose`` picks the files that are needed, by name."""
    model: RemoteModel = _of(address).find_model(address, choose)
    return model


def fetch_model(address: Address, model: RemoteModel, folder: Path) -> Path:
    """Download into ``folder``, and return the one below it that holds the model's files."""
    download(address.field, model.files, folder)
    return model.unpack(folder)


def fetch_file(address: Address, folder: Path) -> Path:
    """Download one file into a folder below ``folder``, which holds nothing else."""
    file: RemoteFile = _of(address).find_file(address)
    here = folder / f"version-{sha256_text(file.version)[:16]}"
    remove_others(folder, here)
    download(address.field, [file], here)
    return here / file.name


def remove_others(downloads: Path, wanted: Path) -> None:
    """Remove what was downloaded of other versions of the same thing."""
    for other in downloads.glob("*"):
        if other != wanted:
            shutil.rmtree(other, ignore_errors=True)


def _of(address: Address) -> Any:
    """The module of a scheme. It is loaded when it is needed: the client for S3 takes half a second."""
    return import_module(f"{__name__}.{_MODULES[address.scheme]}")
