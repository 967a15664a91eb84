"""The artifact: the files that would be published, made of a checkpoint, and loaded just as they are."""

import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, GenerationConfig, PreTrainedModel

from tunegate_api.contract import FileManifest, TrainingParameters
from tunegate_api.meta import Sha256
from tunegate_trainer.data.weights import stored_dtype
from tunegate_trainer.errors import SourceNotFoundError, StorageError
from tunegate_trainer.files import is_complete, read_manifest, remove, seal, sha256_file, verify
from tunegate_trainer.model import load_adapter, load_base

_ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_FILES = ("adapter_model.safetensors", _ADAPTER_CONFIG)
"""What of an adapter's checkpoint is published. The optimizer's state is not."""
_TOKENIZER_FILES = ("*token*.json", "vocab*", "merges.txt", "*.model", "chat_template*")
"""What of the base model is published too: whoever loads the artifact must render chats the same way."""
_GENERATION_FILES = ("generation_config.json",)
"""What of the base model is published with all weights: nobody loads these from the base any more."""
_SET_FOR_TRAINING = ("use_cache", "bos_token_id", "eos_token_id", "pad_token_id")
"""Settings of a model that the Trainer changes, and that are those of the base again in what is published."""
_CPU = torch.device("cpu")


def build_artifact(checkpoint: Path, base: Path, artifact: Path) -> FileManifest:
    """Make ``artifact`` from a checkpoint and files of the base model: whole and hashed, or not there.

    Of an adapter it is the adapter; where all weights were trained, it is all of them, in the type that the
    base model is stored in. One that is already there with just these files, undamaged, stays. Raises
    :class:`StorageError` if the checkpoint's files are not what its manifest says.
    """
    name = f"{checkpoint.parent.name}/{checkpoint.name}"
    if not is_complete(checkpoint):
        raise SourceNotFoundError(f"there is no complete checkpoint {name}")
    problems = verify(checkpoint)
    if problems:
        raise StorageError(
            f"checkpoint {name} is damaged: {'; '.join(problems)}",
            "something changed files on the volume, or it lost them",
        )
    scratch = artifact.with_name(f"{artifact.name}.scratch")
    remove(scratch)
    scratch.mkdir(parents=True)
    if (checkpoint / _ADAPTER_CONFIG).exists():
        copies = _files_of(checkpoint, _ADAPTER_FILES) | _files_of(base, _TOKENIZER_FILES)
    else:
        _write_all_weights(checkpoint, base, scratch)
        copies = _files_of(base, _TOKENIZER_FILES + _GENERATION_FILES)
    for path in copies:
        shutil.copyfile(path, scratch / path.name)
    manifest = seal(scratch)
    if any(manifest.files[path.name] != digest for path, digest in copies.items()):
        raise StorageError("checkpoint or base model changed while the artifact was made of them")
    if is_complete(artifact) and not verify(artifact) and read_manifest(artifact) == manifest:
        remove(scratch)
        return manifest
    remove(artifact)
    scratch.rename(artifact)
    return manifest


def judged_dtype(parameters: TrainingParameters, artifact: Path, device: torch.device) -> str:
    """The type in which an artifact is judged: the planned one of the base below an adapter; of a whole model
    the stored one, in which it is served, but float32 on a CPU."""
    if parameters.adapter == "None" and device.type != "cpu":
        return stored_dtype(artifact)
    return parameters.dtype


def load_artifact(base_model: PreTrainedModel, artifact: Path, dtype: str, device: torch.device) -> Any:
    """The artifact's adapter around ``base_model``, a ``peft.PeftModel``, or the artifact's own weights.

    ``base_model`` is used up. Raises :class:`StorageError` if the artifact changed meanwhile, in weights or
    tokenizer.
    """
    if (artifact / _ADAPTER_CONFIG).exists():
        model = load_adapter(base_model, artifact, trainable=False)
    else:
        torch.nn.Module.to(base_model, "meta")  # frees its memory, which the other weights need
        model = load_base(artifact, dtype, device)
    problems = verify(artifact)
    if problems:  # checked after loading, so that what was loaded is what the digest says
        raise StorageError(f"the artifact changed while it was loaded: {'; '.join(problems)}")
    return model


def _files_of(folder: Path, patterns: tuple[str, ...]) -> dict[Path, Sha256]:
    """The files of a sealed folder that match, each with its digest by the manifest."""
    files = read_manifest(folder).files
    return {folder / n: files[n] for n in sorted(files) if any(fnmatch(n, pattern) for pattern in patterns)}


def _write_all_weights(checkpoint: Path, base: Path, folder: Path) -> None:
    model = load_base(checkpoint, stored_dtype(base), _CPU)
    before = AutoConfig.from_pretrained(base, trust_remote_code=False)
    for setting in _SET_FOR_TRAINING:
        setattr(model.config, setting, getattr(before, setting, None))
    model.generation_config = GenerationConfig.from_model_config(model.config)
    model.save_pretrained(folder)
    for path, digest in _files_of(checkpoint, ("model*.safetensors", "config.json")).items():
        if sha256_file(path) != digest:  # checked after loading, as above
            raise StorageError("the checkpoint changed while the artifact was made of it")
