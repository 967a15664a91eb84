"""Check that the weights of a model have the names and shapes that its configuration requires.

transformers trains with random numbers instead of missing weights, and ignores unexpected ones.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from tunegate_api.meta import summarize
from tunegate_trainer.models.safetensors import tensor_shapes
from tunegate_trainer.models.target_modules import skeleton
from tunegate_trainer.process.errors import BadDataError

_Shapes = Mapping[str, tuple[int, ...]]
_SINGLE_FILE = "model.safetensors"
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
"""The number of a layer in the name of a tensor."""
_SHOWN = 5
"""Maximum number of tensors in an error."""
_WRONG_CONFIG = "check whether config.json belongs to these weights"
_MISSING_FILES = f"copy all of the model's files, or {_WRONG_CONFIG}"


def check_matching_weights(folder: Path) -> None:
    """Raise :class:`BadDataError` if weights in ``folder`` are missing, of a wrong shape, or of more
    layers than the model has. Other tensors that the model does not have are ignored, as transformers does:
    many published models have tensors for other libraries.

    Only the headers of the files are read: transformers loads tensors that have shapes but no numbers, with
    the same conversions of names and shapes as in training. A folder without weights is not checked.
    """
    files = _loaded(tensor_shapes(folder))
    stored = {name: shape for shapes in files.values() for name, shape in shapes.items()}
    if not stored:
        return
    found = _load_without_numbers(folder, stored)
    file_of = {name: file for file, shapes in files.items() for name in shapes}

    def place(name: str) -> str:
        """Return the name of a tensor with its file, unless transformers has renamed the tensor."""
        return f"{name} in {file_of[name]}" if name in file_of else name

    layers = {_NUMBER.sub("#", name) for name in skeleton(folder).state_dict()}
    surplus = [name for name in sorted(found["unexpected_keys"]) if _NUMBER.sub("#", name) in layers]
    problems = [
        *(f"{name} is missing" for name in sorted(found["missing_keys"])),
        *(f"{place(name)} is not part of the model" for name in surplus),
        *(
            f"{place(name)} has the shape {_text(shape)}, but by config.json it has the shape {_text(wanted)}"
            for name, shape, wanted in sorted(found["mismatched_keys"])
        ),
    ]
    if not problems:
        return
    raise BadDataError(
        f"model.uri: the weights do not match config.json in {len(problems)} "
        f"{'tensor' if len(problems) == 1 else 'tensors'}: "
        f"{summarize(problems, _SHOWN, separator='; ', last='; and ')}",
        _MISSING_FILES if found["missing_keys"] else _WRONG_CONFIG,
    )


def embedding_rows(folder: Path) -> int:
    """Return the number of rows of the embedding matrix of the model in ``folder``, by its configuration."""
    embedding: Any = skeleton(folder).get_input_embeddings()
    return int(embedding.weight.shape[0])


def _loaded(files: Mapping[str, _Shapes]) -> Mapping[str, _Shapes]:
    """Return the files that transformers loads. Others are copies in the layout of another library."""
    if _SINGLE_FILE in files:
        return {_SINGLE_FILE: files[_SINGLE_FILE]}
    own = {name: shapes for name, shapes in files.items() if name.startswith("model")}
    return own or files


def _load_without_numbers(folder: Path, stored: _Shapes) -> dict[str, Any]:
    """Return what transformers reports about loading tensors with the names and shapes in ``stored``."""
    model: Any = skeleton(folder)
    with torch.device("meta"):
        tensors = {name: torch.empty(shape) for name, shape in stored.items()}
    try:
        with _quiet():
            _, found = type(model).from_pretrained(
                None,
                config=model.config,
                state_dict=tensors,
                device_map={"": "meta"},
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except RuntimeError as error:
        raise BadDataError(
            "model.uri: the weights do not match config.json: the tensors of some layers, such as those of "
            "single experts, are missing or have shapes with which they cannot be joined",
            _MISSING_FILES,
        ) from error
    return dict(found)


def _text(shape: Iterable[int]) -> str:
    return f"({', '.join(map(str, shape))})"


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the report and the progress bar of transformers within this block."""
    before = logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
