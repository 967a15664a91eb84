"""The base model, from wherever it is, as one folder of safetensors on the workspace."""

import hashlib
import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from tunegate_api.contract import ModelPlan, Workspace
from tunegate_api.v1alpha1.finetunejob import ModelSource
from tunegate_trainer.data.sources import locate
from tunegate_trainer.errors import BadDataError, SourceNotFoundError, UserError
from tunegate_trainer.files import is_complete, seal, sha256_file

GGUF_CONVERSION = "gguf-to-safetensors-1"
"""Part of a converted model's digest: another way to convert makes another model."""
MODEL_FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model", "*.txt")
UNSAFE_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def resolve_model(root: Path, workspace: Path, source: ModelSource) -> ModelPlan:
    """Put the model at ``models/<digest>`` of the workspace, unless it is there.

    The digest is of the source: its weights, configuration and tokenizer files, and for a GGUF file of the
    conversion too. So a model that was fetched before is found without being fetched again.

    Raises :class:`SourceNotFoundError` or, for weights that could run code when they are loaded,
    :class:`UserError`.
    """
    uri = source.uri or ""
    folder = _package_folder(uri) if uri.startswith("package://") else locate(root, uri)
    if not folder.is_dir():
        raise SourceNotFoundError(
            f"model.uri: there is no folder {uri}", "it must hold config.json and safetensors"
        )
    gguf = sorted(folder.glob("*.gguf"))
    if any(folder.glob("*.safetensors")):
        digest = _folder_digest(folder)
        target = _place(workspace, digest, lambda into: _copy(folder, into))
    elif len(gguf) == 1:
        digest = hashlib.sha256(f"{GGUF_CONVERSION} {sha256_file(gguf[0])}".encode()).hexdigest()
        target = _place(workspace, digest, lambda into: _convert_gguf(gguf[0], into))
    else:
        raise _no_weights(uri, folder, gguf)
    return ModelPlan(uri=uri, revision=source.revision, digest=digest, parameters=_count_parameters(target))


def _package_folder(uri: str) -> Path:
    """The folder of an installed Python package, which is not imported."""
    name = urlsplit(uri).netloc
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    if found is None or found.origin is None:
        raise SourceNotFoundError(
            f"model.uri: no Python package {name} is installed where the trainer runs",
            f"pip install {name.replace('_', '-')}, or add it to the trainer image",
        )
    return Path(found.origin).parent


def _place(workspace: Path, digest: str, fill: Callable[[Path], None]) -> Path:
    """Fill a fresh folder, seal it, and give it its name; done before, it is left as it is."""
    target = workspace / Workspace.base_model(digest)
    if is_complete(target):
        return target
    fresh = target.with_name(f".{digest[:12]}-{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        fill(fresh)
        seal(fresh)
        try:
            fresh.rename(target)
        except OSError:  # another job put it there meanwhile
            if not is_complete(target):
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return target


def _copy(folder: Path, into: Path) -> None:
    for path in _model_files(folder):
        shutil.copyfile(path, into / path.name)


def _convert_gguf(file: Path, into: Path) -> None:
    """Weights dequantized to float32, configuration, tokenizer and chat template of a GGUF file."""
    import torch  # noqa: PLC0415 - needed for a conversion alone, and slow to import
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    model = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, trust_remote_code=False
    )
    # What is saved is not quantized any more, and must not say so.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None  # type: ignore[assignment] # an attribute of its loader, not a weight
    model.save_pretrained(into)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(into)


def _no_weights(uri: str, folder: Path, gguf: list[Path]) -> Exception:
    if len(gguf) > 1:
        return UserError(
            f"model.uri: {uri} holds {len(gguf)} GGUF files: {', '.join(path.name for path in gguf)}",
            "leave the one to train on",
        )
    unsafe = sorted(path.name for pattern in UNSAFE_WEIGHTS for path in folder.glob(pattern))
    if unsafe:
        return UserError(
            f"model.uri: {uri} has weights only as {unsafe[0]}, which can run code when it is loaded",
            "convert it: load it where you trust it, and save_pretrained(..., safe_serialization=True)",
        )
    return SourceNotFoundError(
        f"model.uri: {uri} holds no *.safetensors and no *.gguf", f"it has: {_names(folder)}"
    )


def _names(folder: Path) -> str:
    return ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"


def _model_files(folder: Path) -> list[Path]:
    return sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern) if path.is_file()})


def _folder_digest(folder: Path) -> str:
    if not (folder / "config.json").is_file():
        raise SourceNotFoundError(
            f"model.uri: {folder.name}/ has no config.json", f"it has: {_names(folder)}"
        )
    total = hashlib.sha256()
    for path in _model_files(folder):
        total.update(f"{path.name} {sha256_file(path)}\n".encode())
    return total.hexdigest()


def _count_parameters(folder: Path) -> int:
    """Numbers in all weights, from the headers of the safetensors files: tied ones count once."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            try:
                header = json.loads(file.read(length))
            except ValueError as error:
                raise BadDataError(f"model.uri: {path.name} is no safetensors file") from error
        for name, tensor in header.items():
            if name != "__metadata__":
                size = 1
                for dimension in tensor["shape"]:
                    size *= dimension
                total += size
    return total
