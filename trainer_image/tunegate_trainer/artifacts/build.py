"""The artifact: the files that would be published, made of a checkpoint, and loaded just as they are."""

import shutil
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import LoraLayer, ParamWrapper
from transformers import AutoConfig, GenerationConfig, PreTrainedModel

from tunegate_api.contract import FileManifest
from tunegate_api.meta import Sha256
from tunegate_api.plan import TrainingParameters
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
"""What of an adapter's checkpoint is published. The optimizer's state is not."""
_TOKENIZER_FILES = ("*token*.json", "vocab*", "merges.txt", "*.model", "chat_template*")
"""What of the base model is published too: whoever loads the artifact must render chats the same way."""
_CHAT_TEMPLATE = "chat_template.jinja"
_IMAGE_FILES = ("*processor_config.json",)
"""What of the base model is published with all weights: how a multimodal one reads images."""
_GENERATION_FILES = ("config.json", "generation_config.json")
"""What of the base model names tokens at which generation ends."""
_SET_FOR_TRAINING = ("use_cache", "bos_token_id", "eos_token_id", "pad_token_id")
"""Settings of a model that the Trainer changes, and that are those of the base again in what is published."""
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
    """Make ``artifact`` from a checkpoint and files of its base model: whole and hashed, or not there.

    Of an adapter it is the adapter, unless ``whole`` asks for it merged into its base; where all weights were
    trained, it is all of them. Whole models are in the type that the base is stored in. Its chat template has
    ``arguments``, as training had. One that is already
    there with just these files, undamaged, stays. Raises :class:`StorageError` if the checkpoint's files are
    not what its manifest says, :class:`Superseded` if another process became the writer meanwhile.
    """
    writer.check()  # the scratch folder of a later pod is not ours to remove
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
    """Write an artifact, as of :func:`build_artifact`, to a ``folder`` that nobody reads yet.

    Its tokenizer is that of the base, or the one in the sealed folder ``tokenizer``.

    ``trained`` says how the base was held in training. A quantized one is quantized again just so, and the
    adapter merged into what that makes of it: beside the original weights it is a little off.
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
        # transformers and vLLM read this file rather than what tokenizer_config.json says.
        template = load_tokenizer(base, arguments=arguments).chat_template
        (folder / _CHAT_TEMPLATE).write_text(str(template), encoding="utf-8")
        copies = {path: digest for path, digest in copies.items() if path.name != _CHAT_TEMPLATE}
    read = _files_of(base, _GENERATION_FILES)
    _write_generation_config(base, folder)
    manifest = seal(folder)
    if any(manifest.files[path.name] != digest for path, digest in copies.items()) or any(
        sha256_file(path) != digest for path, digest in read.items()
    ):
        raise StorageError("the checkpoint or the base model changed while the artifact was built")
    return manifest


def check_checkpoint(checkpoint: Path) -> None:
    """Raise unless every file of a checkpoint is as it was written."""
    name = f"checkpoint {checkpoint.parent.name}/{checkpoint.name}"
    if not is_complete(checkpoint):
        raise SourceNotFoundError(f"there is no complete {name}")
    problems = verify(checkpoint)
    refuse_unreadable(name, problems)
    if problems:
        raise StorageError(
            f"{name} is damaged: {'; '.join(problems)}",
            "files on the volume were changed or lost",
        )


def is_adapter(folder: Path) -> bool:
    """Whether a checkpoint or an artifact is an adapter alone."""
    return (folder / _ADAPTER_CONFIG).exists()


def judged_dtype(parameters: TrainingParameters, artifact: Path, device: torch.device) -> str:
    """The type in which an artifact is judged: the planned one of the base below an adapter; of a whole model
    the stored one, in which it is served, but float32 on a CPU."""
    if device.type != "cpu" and not is_adapter(artifact):
        return stored_dtype(artifact)
    return parameters.dtype


def published_stops(artifact: Path) -> list[int]:
    """Every token that the artifact's generation_config.json ends an answer at."""
    named: Any = GenerationConfig.from_pretrained(artifact, local_files_only=True).eos_token_id
    return list(named)


def load_artifact(base_model: PreTrainedModel, artifact: Path, dtype: str, device: torch.device) -> Any:
    """The artifact's adapter around ``base_model``, a ``peft.PeftModel``, or the artifact's own weights.

    ``base_model`` is used up. Raises :class:`StorageError` if the artifact changed meanwhile, in weights or
    tokenizer.
    """
    if is_adapter(artifact):
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


def _write_generation_config(base: Path, folder: Path) -> None:
    """Name every stop token where transformers and servers look for them. Of the base's other settings
    (temperature, penalties) there is none: the gate judges without them."""
    config = generation_config(base)
    config.eos_token_id = stop_token_ids(load_tokenizer(base), config)
    config.save_pretrained(folder)


def _write_all_weights(checkpoint: Path, base: Path, folder: Path, trained: TrainingParameters) -> None:
    dtype = stored_dtype(base)
    if is_adapter(checkpoint):
        if trained.quantization:
            below = dequantized(load_base(base, trained.dtype, _CPU, trained.quantization), dtype)
        else:
            below = load_base(base, dtype, _CPU)
        model, read = merged(below, checkpoint), _ADAPTER_FILES
    else:
        model, read = load_base(checkpoint, dtype, _CPU), ("model*.safetensors", "config.json")
    before = AutoConfig.from_pretrained(base, trust_remote_code=False)
    for setting in _SET_FOR_TRAINING:
        setattr(model.config, setting, getattr(before, setting, None))
    model.save_pretrained(folder)
    for path, digest in _files_of(checkpoint, read).items():
        if sha256_file(path) != digest:  # checked after loading, as above
            raise StorageError("the checkpoint changed while the artifact was built from it")


def dequantized(model: Any, dtype: str) -> PreTrainedModel:
    """The model that a quantized one computes with, in ``dtype``."""
    model.dequantize()
    whole: PreTrainedModel = torch.nn.Module.to(model, getattr(torch, dtype))
    return whole


def merged(base: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    """``base`` with an adapter merged into its weights, which is used up.

    Added in float32 and rounded once to the base's type; PEFT would round the update before it adds it.
    """
    tuned = load_adapter(base, adapter, trainable=False)
    for module in tuned.modules():
        if isinstance(module, LoraLayer):
            # Of experts, which are one tensor for all, PEFT wraps the tensor and not the layer.
            name = module.parameter_name if isinstance(module, ParamWrapper) else "weight"
            weight = module.get_base_layer().get_parameter(name)
            stored = weight.dtype
            weight.data = weight.data.float()
            module.merge()
            weight.data = weight.data.to(stored)
    model: PreTrainedModel = tuned.unload()
    return model
