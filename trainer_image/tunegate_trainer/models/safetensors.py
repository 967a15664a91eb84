"""Read the headers of safetensors files: check that the files are complete, and find their dtypes and the
number of parameters.

The format is 8 bytes with the length of the header, the header as JSON, and then the bytes of the tensors
("Format" in the documentation of safetensors).
"""

import json
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

from tunegate_api.meta import summarize
from tunegate_trainer.process.errors import BadDataError, SourceNotFoundError

INDEX = "model.safetensors.index.json"
"""The index of a model in several files: it names the file of each tensor."""
_MAX_HEADER = 100_000_000
"""Maximum length of a header in this format, in bytes."""
_SHORT_NAMES = {"BF16": "bfloat16", "F16": "float16"}
_COPY_AGAIN = "copy the file again"
_SHOWN = 5
"""Maximum number of file names in an error."""
_GIT_LFS = b"version https://git-lfs"


def check_weights(folder: Path) -> None:
    """Check that the weights in ``folder`` are complete, before a GPU is requested.

    Raises :class:`BadDataError` for an incomplete or damaged file or a Git LFS pointer, and
    :class:`SourceNotFoundError` if a file that the index names is missing.
    """
    for path in _files(folder):
        header = _header(path)
        ends = [tensor["data_offsets"][1] for tensor in header.values()]
        expected = _header_bytes(path) + max(ends, default=0)
        if path.stat().st_size != expected:
            raise BadDataError(
                f"model.uri: {path.name} has {path.stat().st_size:,} bytes, but by its header it should have "
                f"{expected:,} bytes",
                "the file was not copied correctly: copy it again",
            )
    index = folder / INDEX
    if index.is_file():
        missing = sorted({name for name in _weight_map(index).values() if not (folder / str(name)).is_file()})
        if missing:
            raise SourceNotFoundError(
                f"model.uri: these files, which {INDEX} names, do not exist: {summarize(missing, _SHOWN)}",
                "copy all of the model's files",
            )


def count_parameters(folder: Path) -> int:
    """Return the number of parameters in the weights of ``folder``. Tied weights count once."""
    return sum(prod(tensor["shape"]) for path in _files(folder) for tensor in _header(path).values())


def tensor_shapes(folder: Path) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return the shape of each tensor in ``folder``, by the name of its file and its own name."""
    return {
        path.name: {name: tuple(tensor["shape"]) for name, tensor in _header(path).items()}
        for path in _files(folder)
    }


def stored_dtype(folder: Path) -> str:
    """Return the most frequent dtype of the weights in ``folder``: ``bfloat16`` or ``float16``, else
    ``float32``.

    If the folder has no weights, the dtype is read from the configuration.
    """
    numbers: Counter[str] = Counter()
    for path in _files(folder):
        for tensor in _header(path).values():
            numbers[tensor["dtype"]] += prod(tensor["shape"])
    if not numbers:
        config = json.loads((folder / "config.json").read_bytes())
        dtype = config.get("dtype") or config.get("torch_dtype")
        return dtype if dtype in _SHORT_NAMES.values() else "float32"
    return _SHORT_NAMES.get(max(numbers, key=lambda name: numbers[name]), "float32")


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _header(path: Path) -> dict[str, Any]:
    """Return the dtype, shape and offsets of each tensor, by name."""
    length = _header_bytes(path) - 8
    try:
        with path.open("rb") as file:
            file.seek(8)
            header = json.loads(file.read(length))
        tensors = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
        for tensor in tensors.values():
            tensor["dtype"].lower()
            prod(tensor["shape"])
            tensor["data_offsets"][1] + 0
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise BadDataError(f"model.uri: {path.name} is not a safetensors file", _COPY_AGAIN) from error
    return tensors


def _header_bytes(path: Path) -> int:
    """Return the number of bytes before the tensors."""
    with path.open("rb") as file:
        start = file.read(len(_GIT_LFS))
    if start == _GIT_LFS:
        raise BadDataError(
            f"model.uri: {path.name} is a Git LFS pointer, not the weights",
            "run git lfs pull in the Git repository that the model was copied from, and copy the file again",
        )
    length = int.from_bytes(start[:8], "little")
    if length > min(_MAX_HEADER, path.stat().st_size):
        raise BadDataError(
            f"model.uri: {path.name} is not a safetensors file, or was not copied completely", _COPY_AGAIN
        )
    return 8 + length


def _weight_map(index: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(index.read_bytes())["weight_map"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadDataError(f"model.uri: {INDEX} is damaged", _COPY_AGAIN) from error
