"""Models and data files from other machines: hubs, object stores and registries.

Each scheme has a module that says which files there are and how to read one from any byte on; all else is
done once, in :mod:`download`: it goes on where it was broken off, and keeps nothing that is not verified.
"""

from collections.abc import Callable
from pathlib import Path

from tunegate_trainer.data.fetch import hub, oci, s3
from tunegate_trainer.data.fetch.address import Address, Choose, RemoteFile, RemoteModel
from tunegate_trainer.data.fetch.download import download

_MODELS: dict[str, Callable[[Address, Choose], RemoteModel]] = {
    "hf": hub.find_model,
    "s3": s3.find_model,
    "oci": oci.find_model,
}
_FILES: dict[str, Callable[[Address], RemoteFile]] = {"hf": hub.find_file, "s3": s3.find_file}
_PINS: dict[str, Callable[[Address], str | None]] = {"hf": hub.pinned, "oci": oci.pinned}

MODEL_SCHEMES = frozenset(_MODELS)
FILE_SCHEMES = frozenset(_FILES)


def pinned(address: Address) -> str | None:
    """What identifies the content of a model for ever, where the spec itself says it: a commit, a digest."""
    find = _PINS.get(address.scheme)
    return find(address) if find else None


def find_model(address: Address, choose: Choose) -> RemoteModel:
    """Ask what there is. ``choose`` picks the files that are needed, by name."""
    return _MODELS[address.scheme](address, choose)


def fetch_model(address: Address, model: RemoteModel, folder: Path) -> Path:
    """Download into ``folder``, and return the one below it that holds the model's files."""
    download(address.field, model.files, folder)
    return model.unpack(folder)


def fetch_file(address: Address, folder: Path) -> Path:
    """Download one file into ``folder``."""
    file = _FILES[address.scheme](address)
    download(address.field, [file], folder)
    return folder / file.name
