"""Build the artifact from a checkpoint, and load it.

The artifact is the exact files that would be published.
"""

import shutil
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import LoraLayer, ParamWrapper
from transformers import AutoConfig, GenerationConfig, PreTrainedModel

from tunegate_api.contract.digests import FileManifest
from tunegate_api.contract.plan import TrainingParameters
from tunegate_api.meta import Sha256
from tunegate_trainer.models.loading import generation_config, load_adapter, load_base
from tunegate_trainer.models.safetensors import stored_dtype
from tunegate_trainer.process.epoch import Writer
from tunegate_trainer.process.errors import SourceNotFoundError, StorageError
from tunegate_trainer.process.files import (
    is_complete,
    read_manifest,
    refuse_unreadable,
    remove,
    seal,
    sha256_file,
    verify,
)
from tunegate_trainer.tokens.chat import load_tokenizer, stop_token_ids

_ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_FILES = ("adapter_model.safetensors", _ADAPTER_CONFIG)
"""Files of an adapter's checkpoint that are published. Files with optimizer state are not published."""
_TOKENIZER_FILES = ("*token*.json", "vocab*", "merges.txt", "*.model", "chat_template*")
"""Tokenizer files of the base model. Every artifact contains them, so that users render chats in the same way
as in training."""
_CHAT_TEMPLATE = "chat_template.jinja"
_IMAGE_FILES = ("*processor_config.json",)
"""Files with the settings for images of a multimodal base model. They are published with a whole model, but
not with an adapter."""
_GENERATION_FILES = ("config.json", "generation_config.json")
"""Files of the base model that can contain its stop tokens (``eos_token_id``)."""
_SET_FOR_TRAINING = ("use_cache", "bos_token_id", "eos_token_id", "pad_token_id")
"""Settings that the transformers Trainer changes. In the artifact, they are reset to the base model's
values."""
_CPU = torch.device("cpu")


def build_artifact(
    checkpoint: Path,
    base: Path,
    artifact: Path,
    writer: Writer,
    *,
    whole: bool,
    trained: TrainingParameters,
    arguments: Mapping[str, Any] | None = None,
) -> FileManifest:
    """Build the folder ``artifact`` from a checkpoint and its base model, completely or not at all.

    If all weights were trained, the artifact is a whole model. If the checkpoint is an adapter, the artifact
    is an adapter too; with ``whole``, the adapter is merged into its base. A whole model has the dtype in
    which the base is stored. ``arguments`` become the defaults of the chat template, as in training. An
    existing undamaged artifact with the same files is kept.

    Raises the errors of :func:`check_checkpoint`, :class:`StorageError` if the checkpoint or the base changes
    in the meantime, and :class:`Superseded` if another process became the writer.
    """
    writer.check()  # only the current writer may remove scratch folders
    for left in artifact.parent.glob(f"{artifact.name}.scratch-*"):
        remove(left)
    scratch = artifact.with_name(f"{artifact.name}.scratch-{writer.epoch:06d}")
    manifest = write_artifact(checkpoint, base, scratch, whole=whole, trained=trained, arguments=arguments)
    writer.check()
    if is_complete(artifact) and not verify(artifact) and read_manifest(artifact) == manifest:
        remove(scratch)
        return manifest
    remove(artifact)
    scratch.rename(artifact)
    return manifest


def write_artifact(
    checkpoint: Path,
    base: Path,
    folder: Path,
    *,
    whole: bool,
    trained: TrainingParameters,
    arguments: Mapping[str, Any] | None = None,
    tokenizer: Path | None = None,
) -> FileManifest:
    """Write an artifact, as :func:`build_artifact` describes it, to a ``folder`` that no process reads yet.

    The tokenizer is copied from the sealed folder ``tokenizer``, by default from the base. ``trained`` are
    the training parameters, with the base's dtype and quantization during training. If the base was
    quantized, the adapter was trained on top of the quantized weights. It is therefore merged into their
    dequantized values, which differ slightly from the original weights.
    """
    check_checkpoint(checkpoint)
    tokenizer = tokenizer or base
    remove(folder)
    folder.mkdir(parents=True)
    if is_adapter(checkpoint) and not whole:
        copies = _files_of(checkpoint, _ADAPTER_FILES) | _files_of(tokenizer, _TOKENIZER_FILES)
    else:
        _write_all_weights(checkpoint, base, folder, trained)
        copies = _files_of(tokenizer, _TOKENIZER_FILES) | _files_of(base, _IMAGE_FILES)
    for path in copies:
        shutil.copyfile(path, folder / path.name)
    if arguments:
        # transformers and vLLM prefer this file to the template in tokenizer_config.json.
        template = load_tokenizer(base, arguments=arguments).chat_template
        (folder / _CHAT_TEMPLATE).write_text(str(template), encoding="utf-8")
        copies = {path: digest for path, digest in copies.items() if path.name != _CHAT_TEMPLATE}
    read = _files_of(base, _GENERATION_FILES)
    _write_generation_config(base, folder)
    manifest = seal(folder)
    if any(manifest.files[path.name] != digest for path, digest in copies.items()) or any(
        sha256_file(path) != digest for path, digest in read.items()
    ):
        raise StorageError(
            "the checkpoint or the base model changed while the artifact was built",
            "do not change files in the job's folder or in models/ on the volume; the next attempt builds "
            "it again",
        )
    return manifest


def check_checkpoint(checkpoint: Path) -> None:
    """Raise an error if a checkpoint cannot be used.

    Raises :class:`SourceNotFoundError` if it is missing or incomplete, and :class:`StorageError` if it is
    damaged or cannot be read.
    """
    name = f"checkpoint {checkpoint.parent.name}/{checkpoint.name}"
    if not is_complete(checkpoint):
        raise SourceNotFoundError(
            f"{name} is missing or incomplete",
            "check whether files on the volume were removed; if so, restore them or create the job again",
        )
    problems = verify(checkpoint)
    refuse_unreadable(name, problems)
    if problems:
        raise StorageError(
            f"{name} is damaged: {'; '.join(problems)}",
            "files on the volume were changed or lost: restore them, or create the job again",
        )


def is_adapter(folder: Path) -> bool:
    """Return whether a checkpoint or an artifact is an adapter, not a whole model."""
    return (folder / _ADAPTER_CONFIG).exists()


def judged_dtype(parameters: TrainingParameters, artifact: Path, device: torch.device) -> str:
    """Return the dtype in which the gate loads an artifact.

    A whole model is loaded on a GPU in its stored dtype, in which it will be served. An adapter's base, or
    any model on a CPU, is loaded in the dtype of training.
    """
    if device.type != "cpu" and not is_adapter(artifact):
        return stored_dtype(artifact)
    return parameters.dtype


def published_stops(artifact: Path) -> list[int]:
    """Return the ids of the stop tokens in the artifact's generation_config.json."""
    named: Any = GenerationConfig.from_pretrained(artifact, local_files_only=True).eos_token_id
    return [named] if isinstance(named, int) else list(named)


def load_artifact(
    base_model: PreTrainedModel | None, artifact: Path, dtype: str, device: torch.device
) -> Any:
    """Load an artifact. Returns a whole model, or for an adapter, a ``peft.PeftModel`` around ``base_model``.

    In both cases, the caller must not use ``base_model`` afterwards. It may be None for a whole model. Raises
    :class:`StorageError` if a file of the artifact, including its tokenizer, has changed since the artifact
    was built or cannot be read.
    """
    if is_adapter(artifact):
        if base_model is None:
            raise TypeError("an adapter is loaded around its base model")
        model = load_adapter(base_model, artifact, trainable=False)
    else:
        if base_model is not None:
            torch.nn.Module.to(base_model, "meta")  # frees memory for the artifact's weights
        model = load_base(artifact, dtype, device)
    problems = verify(artifact)  # after loading, so that the loaded weights are those of the digest
    refuse_unreadable("the artifact", problems)
    if problems:
        raise StorageError(
            f"the artifact was changed after it was built: {'; '.join(problems)}",
            "do not change files in the job's folder on the volume; the next attempt builds the artifact "
            "again",
        )
    return model


def _files_of(folder: Path, patterns: tuple[str, ...]) -> dict[Path, Sha256]:
    """Return the files of a sealed folder that match ``patterns``, with their digests in the manifest."""
    files = read_manifest(folder).files
    return {folder / n: files[n] for n in sorted(files) if any(fnmatch(n, pattern) for pattern in patterns)}


def _write_generation_config(base: Path, folder: Path) -> None:
    """Write generation_config.json with the model's special tokens and all stop tokens.

    Other generation settings of the base model, such as temperature, are left out, because the gate evaluates
    the model without them.
    """
    config = generation_config(base)
    config.eos_token_id = stop_token_ids(load_tokenizer(base), config)
    config.save_pretrained(folder)


def _write_all_weights(checkpoint: Path, base: Path, folder: Path, trained: TrainingParameters) -> None:
    dtype = stored_dtype(base)
    if is_adapter(checkpoint):
        if trained.quantization:
            base_model = dequantized(load_base(base, trained.dtype, _CPU, trained.quantization), dtype)
        else:
            base_model = load_base(base, dtype, _CPU)
        model, read = merged(base_model, checkpoint), _ADAPTER_FILES
    else:
        model, read = load_base(checkpoint, dtype, _CPU), ("model*.safetensors", "config.json")
    before = AutoConfig.from_pretrained(base, trust_remote_code=False)
    for setting in _SET_FOR_TRAINING:
        setattr(model.config, setting, getattr(before, setting, None))
    model.save_pretrained(folder)
    for path, digest in _files_of(checkpoint, read).items():
        if sha256_file(path) != digest:  # checked after loading, as above
            raise StorageError(
                "the checkpoint changed while the artifact was built from it",
                "do not change files in the job's folder on the volume",
            )


def dequantized(model: Any, dtype: str) -> PreTrainedModel:
    """Replace the quantized weights of ``model`` by their dequantized values, stored as ``dtype``."""
    model.dequantize()
    whole: PreTrainedModel = torch.nn.Module.to(model, getattr(torch, dtype))
    return whole


def merged(base: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    """Merge an adapter into the weights of ``base`` in place, and return the merged model.

    The adapter's update is added in float32, and the sum is rounded once to the base's dtype. PEFT would also
    round the update before adding it.
    """
    tuned = load_adapter(base, adapter, trainable=False)
    for module in tuned.modules():
        if isinstance(module, LoraLayer):
            # For experts that share one tensor, PEFT wraps the tensor, not the layer.
            name = module.parameter_name if isinstance(module, ParamWrapper) else "weight"
            weight = module.get_base_layer().get_parameter(name)
            stored = weight.dtype
            weight.data = weight.data.float()
            module.merge()
            weight.data = weight.data.to(stored)
    model: PreTrainedModel = tuned.unload()
    return model
