"""Weights that do not match the configuration are refused before training. Only headers of files are read."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import MixtralConfig

from support.published_models import LLAMA_3_8B
from support.random_models import save_random_model
from tunegate_trainer.models.matching_weights import check_matching_weights
from tunegate_trainer.models.target_modules import skeleton
from tunegate_trainer.process.errors import BadDataError

WEIGHTS = "model.safetensors"
NORM, UP = "model.norm.weight", "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def change_config(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def refusal(folder: Path) -> BadDataError:
    with pytest.raises(BadDataError) as raised:
        check_matching_weights(folder)
    return raised.value


def is_accepted(folder: Path) -> bool:
    try:
        check_matching_weights(folder)
    except BadDataError:
        return False
    return True


def test_missing_tensor_is_named(folder):
    change_weights(folder, lambda tensors: tensors.pop(UP))
    error = refusal(folder)
    assert str(error) == (f"model.uri: the weights do not match config.json in 1 tensor: {UP} is missing")
    assert "copy all of the model's files" in error.hint


def test_tensor_that_no_layer_of_the_model_has_is_ignored(folder):
    change_weights(folder, lambda tensors: tensors.update({"model.extra.weight": torch.zeros(2, 3)}))
    assert is_accepted(folder)


def test_tensor_of_a_surplus_layer_is_named_with_its_file(folder):
    surplus = UP.replace("layers.1.", "layers.7.")
    change_weights(folder, lambda tensors: tensors.update({surplus: tensors[UP].clone()}))
    assert str(refusal(folder)) == (
        f"model.uri: the weights do not match config.json in 1 tensor: {surplus} in {WEIGHTS} is not part of "
        "the model"
    )


def test_tensor_with_a_wrong_shape_is_named_with_both_shapes(folder):
    change_weights(folder, lambda tensors: tensors.update({NORM: torch.zeros(7)}))
    assert str(refusal(folder)) == (
        f"model.uri: the weights do not match config.json in 1 tensor: {NORM} in {WEIGHTS} has the shape "
        "(7), but by config.json it has the shape (64)"
    )


def test_configuration_with_fewer_layers_than_the_weights_is_refused(folder):
    change_config(folder, num_hidden_layers=1)
    assert "in 9 tensors: model.layers.1." in str(refusal(folder))
    assert "and 4 more" in str(refusal(folder))


def test_configuration_with_another_vocabulary_is_refused(folder):
    change_config(folder, vocab_size=400)
    message = str(refusal(folder))
    assert "model.embed_tokens.weight" in message
    assert "(400, 64)" in message


def test_separately_stored_experts_are_accepted_unless_one_is_missing(tmp_path):
    """The published weights of Mixtral have three matrices for each expert, the model one tensor for all."""
    folder = save_random_model(tmp_path / "model", MixtralConfig, num_key_value_heads=2, intermediate_size=64)
    names = [name for name in load_file(folder / WEIGHTS) if ".experts." in name]
    assert len(names) == 2 * 8 * 3
    assert is_accepted(folder)
    change_weights(folder, lambda tensors: tensors.pop(names[0]))
    assert "the weights do not match config.json" in str(refusal(folder))


@pytest.mark.parametrize("stored", [True, False])
def test_tied_output_head_may_be_stored_or_not(folder, stored):
    embedding = load_file(folder / WEIGHTS)["model.embed_tokens.weight"]
    if stored:
        change_weights(folder, lambda tensors: tensors.update({"lm_head.weight": embedding.clone()}))
    assert is_accepted(folder)


def test_untied_output_head_must_be_stored(folder):
    change_config(folder, tie_word_embeddings=False)
    assert "lm_head.weight is missing" in str(refusal(folder))


def test_only_headers_of_weights_are_read(tmp_path):
    """The file has 16 GB, but takes no space: nothing was written after its header."""
    folder, end, header = LLAMA_3_8B.save(tmp_path / "model"), 0, {}
    for name, tensor in skeleton(folder).state_dict().items():
        start, end = end, end + 2 * tensor.numel()
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with (folder / WEIGHTS).open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    assert is_accepted(folder)


def test_model_without_weights_is_not_checked(folder):
    (folder / WEIGHTS).unlink()
    assert is_accepted(folder)
