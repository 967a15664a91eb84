"""Store the base model on the storage volume, as one folder with safetensors, from any kind of source."""

import hashlib
import importlib.util
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import gguf

from tunegate_api.contract.plan import ModelLicense, ModelPlan
from tunegate_api.contract.workspace import Workspace
from tunegate_api.meta import Sha256
from tunegate_api.v1alpha2.finetunejob import ModelSource
from tunegate_trainer.fetch import MODEL_SCHEMES, fetch_model, find_model, pinned, remove_others
from tunegate_trainer.fetch.address import Address
from tunegate_trainer.fetch.license import read_license
from tunegate_trainer.fetch.model_files import choose, choose_description
from tunegate_trainer.fetch.origin import origin
from tunegate_trainer.fetch.sources import credentials, locate
from tunegate_trainer.models.architecture import context_length
from tunegate_trainer.models.cache import Download, downloaded_model, is_intact, record_download
from tunegate_trainer.models.safetensors import check_weights, count_parameters
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import (
    BadDataError,
    SourceNotFoundError,
    StorageError,
    UserError,
    unreadable,
)
from tunegate_trainer.process.files import link_or_move, seal, sha256_file

Transfer = Callable[[Path, Path], object]
"""Copies or moves a file to a path in another folder."""
GGUF_CONVERSION = "gguf-to-safetensors-2"
"""Part of a converted model's digest. Increase its number when a change to the code makes the conversion give
other weights."""
_STALE_SECONDS = 24 * 3600
"""Age in seconds from which an incomplete or replaced folder is removed, because the processes that wrote or
read it must have ended."""


def resolve_model(context: Context, source: ModelSource) -> ModelPlan:
    """Store the model at ``models/<digest>`` on the storage volume, unless an intact copy is already there.

    The digest covers the source's weights, configuration and tokenizer files. For a GGUF file, it covers the
    file and the version of the conversion.

    Raises :class:`SourceNotFoundError` if there is no model, :class:`BadDataError` for damaged weights,
    :class:`UserError` for an adapter, for weights that could run code when they are loaded, or if
    permission to read a file is denied, :class:`BadDataError` if the model does not have ``source.sha256``,
    and the errors of :mod:`tunegate_trainer.fetch`.
    """
    _remove_stale(context.workspace / Workspace.models)
    uri, address = source.uri or "", model_address(context, source)
    if address.scheme in MODEL_SCHEMES:
        target, revision, found = _fetch_remote(context, address)
    else:
        folder = source_folder(context.root, source)
        with unreadable_explained(uri, folder):
            target, revision = store_model(context.workspace, uri, folder, shutil.copyfile), None
        found = read_license(folder)
    _check_digest(uri, target.name, source.sha256)
    return ModelPlan(
        uri=uri,
        revision=revision,
        digest=target.name,
        parameters=count_parameters(target),
        license=found,
    )


def _check_digest(uri: str, digest: Sha256, pinned_digest: Sha256 | None) -> None:
    """Raise :class:`BadDataError` unless a model has the pinned digest. For a GGUF file, this may also be the
    digest of the file itself."""
    if pinned_digest is None or digest in (pinned_digest, _gguf_digest(pinned_digest)):
        return
    raise BadDataError(
        f"model.sha256: the model at {uri} has digest {digest}, but the spec pins {pinned_digest}",
        "it is not the model that was pinned: check where it comes from, or set the new digest in a new job",
    )


def model_address(context: Context, source: ModelSource) -> Address:
    """Return the address of the model, with its revision and credentials."""
    return Address("model.uri", source.uri or "", source.revision, credentials(context, source.secret_name))


def _fetch_remote(context: Context, address: Address) -> tuple[Path, str | None, ModelLicense | None]:
    """Fetch a model from another machine. Return its folder in the workspace, its revision and its
    license."""
    workspace, from_servers = context.workspace, origin(address)
    pin = pinned(address)
    known = downloaded_model(workspace, Download(address.uri, pin, from_servers)) if pin else None
    if known is not None:
        return known[0], pin, known[1]
    model = find_model(address, partial(choose, address.uri))
    download = Download(address.uri, model.pin, from_servers)
    known = downloaded_model(workspace, download)
    if known is not None:
        return known[0], model.revision, model.license
    downloads = workspace / context.paths.download / "model"
    folder = downloads / model.pin.removeprefix("sha256:")
    remove_others(downloads, folder)
    target = store_model(workspace, address.uri, fetch_model(address, model, folder), link_or_move)
    record_download(workspace, download, target.name, model.license)
    shutil.rmtree(downloads, ignore_errors=True)
    return target, model.revision, model.license


def source_folder(root: Path, source: ModelSource) -> Path:
    """Return the folder of a local source: a volume, a path or a Python package. It is not checked whether a
    folder on a volume or at a path exists."""
    uri = source.uri or ""
    return _package_folder(uri) if uri.startswith("package://") else locate(root, uri)


@contextmanager
def unreadable_explained(uri: str, folder: Path, field: str = "model.uri") -> Iterator[None]:
    """Turn a PermissionError for a file in ``folder`` into a :class:`UserError` that names the file and the
    ``field``. Other PermissionErrors, for example of writing to the workspace, are not changed."""
    try:
        yield
    except PermissionError as error:
        path = Path(error.filename or "/")
        if not path.is_relative_to(folder):
            raise
        what = uri if path == folder else f"{path.name} of {uri}"
        raise unreadable(f"{field}: {what}") from error


def store_model(workspace: Path, uri: str, folder: Path, transfer: Transfer) -> Path:
    """Store the model of ``folder`` at ``models/<digest>`` of the workspace, and return its folder there.

    ``transfer`` copies or moves each file. A GGUF file is converted instead.
    """
    if not folder.is_dir():
        raise SourceNotFoundError(
            f"model.uri: there is no folder {uri}",
            "it must be a folder with config.json and safetensors files",
        )
    files = choose(uri, [path.name for path in folder.iterdir() if path.is_file()])
    if files[0].endswith(".gguf"):
        gguf = folder / files[0]
        digest = _gguf_digest(sha256_file(gguf))
        return store(workspace, digest, lambda into: _convert_gguf(gguf, into))
    check_weights(folder)
    digest = _files_digest(folder, files)
    return store(workspace, digest, lambda into: _fill(folder, files, into, digest, transfer))


def _gguf_digest(file_sha256: Sha256) -> Sha256:
    return hashlib.sha256(f"{GGUF_CONVERSION} {file_sha256}".encode()).hexdigest()


def model_digest(uri: str, folder: Path) -> Sha256:
    """Return the digest with which :func:`store_model` would store the model of ``folder``, which is not a
    GGUF file. Nothing is copied. Raises the errors of :func:`resolve_model`."""
    with unreadable_explained(uri, folder):
        files = choose(uri, [path.name for path in folder.iterdir() if path.is_file()])
        check_weights(folder)
        return _files_digest(folder, files)


def require_bitsandbytes(what: str) -> None:
    """Raise :class:`UserError` if bitsandbytes is not installed. ``what`` names the setting that needs it."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            f"{what}, which needs bitsandbytes, but bitsandbytes is not installed where the trainer runs",
            "use the trainer image, or install bitsandbytes on Linux",
        )


def _package_folder(uri: str) -> Path:
    """Return the folder of an installed Python package, without importing it."""
    name = uri.removeprefix("package://").strip("/")
    found = _find_package(name)
    if found is None:
        raise SourceNotFoundError(
            f"model.uri: the Python package {name} is not installed where the trainer runs",
            f"pip install {name.replace('_', '-')}, or add it to the trainer image",
        )
    return found


def _find_package(name: str) -> Path | None:
    """Return the folder of the package ``name``, or None. Dashes are accepted, as on the package index."""
    for candidate in (name, name.replace("-", "_")):
        found = importlib.util.find_spec(candidate) if candidate.isidentifier() else None
        if found is not None and found.submodule_search_locations:
            return Path(next(iter(found.submodule_search_locations)))
    return None


def store(workspace: Path, digest: str, fill: Callable[[Path], None]) -> Path:
    """Store a model at ``models/<digest>`` of the workspace, unless an intact one is already there. A damaged
    one is replaced.

    ``fill`` fills and seals an empty folder, which is then renamed. Returns the model's folder.
    """
    target = workspace / Workspace.base_model(digest)
    if is_intact(target):
        return target
    fresh = _scratch_name(target)
    fresh.mkdir(parents=True)
    try:
        fill(fresh)
        _put_in_place(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return target


def _scratch_name(target: Path) -> Path:
    """Return a random name beside a model. Process ids would not do, because pods of several jobs share the
    volume and may have the same ones."""
    return target.with_name(f".{target.name[:12]}-{uuid.uuid4().hex[:8]}")


def _put_in_place(fresh: Path, target: Path) -> None:
    """Rename a complete model to its final name, unless another job has stored an intact one there.

    A damaged model there is renamed, not removed, because pods of other jobs may be reading it. A later job
    removes it, see :func:`_remove_stale`.
    """
    while True:
        try:
            fresh.rename(target)
        except OSError:
            if not target.exists():
                raise
            if is_intact(target):
                return
        else:
            return
        with suppress(FileNotFoundError):  # if another job has just renamed it
            os.utime(target)
            target.rename(_scratch_name(target))


def _remove_stale(models: Path) -> None:
    """Remove the incomplete folders of killed processes, and the folders of models that were replaced."""
    if not os.access(models, os.R_OK | os.X_OK):  # also if it does not exist yet
        return
    for folder in models.glob(".*-*"):
        with suppress(FileNotFoundError):  # if its process has just renamed it
            if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def _fill(folder: Path, files: Sequence[str], into: Path, digest: str, transfer: Transfer) -> None:
    for name in files:
        transfer(folder / name, into / name)
    if _digest(seal(into).files) != digest:
        raise StorageError(
            "model.uri: the model changed while it was copied",
            "do not change the model's files during the copy",
        )


def _convert_gguf(file: Path, into: Path) -> None:
    """Convert a GGUF file to a model in the folder ``into``, and seal the folder. The weights become float32
    safetensors. The configuration, the tokenizer and the chat template are written too."""
    import torch  # noqa: PLC0415 - needed only for a conversion, and slow to import
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

    disable_progress_bar()
    with _read_once():
        model = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    # The saved model is not quantized, so its config must not say so.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None  # type: ignore[assignment] # an attribute of its loader, not a weight
    model.save_pretrained(into)
    save_tokenizer(tokenizer, into)
    seal(into)


@contextmanager
def _read_once() -> Iterator[None]:
    """Let transformers read a GGUF file only once within this block.

    transformers reads the file three times, for the configuration, the weights and the tokenizer, and lists
    the names of all tensors for each module. For a small model, that takes most of the conversion's time.
    """
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
    """Save a tokenizer without the options with which it was loaded.

    The options depend on HF_HUB_OFFLINE, so with them, equal runs would publish different bytes.
    """
    for option in ("local_files_only", "is_local"):
        tokenizer.init_kwargs.pop(option, None)
    tokenizer.save_pretrained(folder)


def _files_digest(folder: Path, files: Sequence[str]) -> Sha256:
    return _digest({name: sha256_file(folder / name) for name in files})


def _digest(files: Mapping[str, str]) -> str:
    """Return one digest of the names and contents of files. ``files`` maps each name to a SHA-256."""
    return hashlib.sha256("".join(f"{n} {files[n]}\n" for n in sorted(files)).encode()).hexdigest()


def model_length(folder: Path) -> int:
    """Return the maximum number of tokens of the model in ``folder``, from its configuration.

    Raises :class:`UserError` if the configuration cannot be loaded, or if the model cannot be fine-tuned, see
    :mod:`tunegate_trainer.models.supported`.
    """
    from huggingface_hub.errors import StrictDataclassError  # noqa: PLC0415 - slow to import
    from transformers import AutoConfig  # noqa: PLC0415

    from tunegate_trainer.models.supported import check_supported  # noqa: PLC0415 - imports PyTorch

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # each class of configurations raises other errors
        if getattr(error, "errno", None):  # an error of the disk, not of transformers
            raise
        # Of a failed validation, the first line names only the validator.
        cause = error.__cause__ if isinstance(error, StrictDataclassError) else None
        raise UserError(
            f"model.uri: the model's config.json cannot be used: {str(cause or error).splitlines()[0]}",
            "use a model that this version of transformers supports, without custom code",
        ) from error
    check_supported(folder, config)
    return context_length(config)


def configuration_folder(context: Context, source: ModelSource) -> Path:
    """Return the folder with the model's configuration.

    A local model is used in place. For a remote model, its configuration and tokenizer are downloaded to the
    workspace. A GGUF file is converted to a model in the workspace.
    """
    address = model_address(context, source)
    if address.scheme in MODEL_SCHEMES:
        described = find_model(address, partial(choose_description, address.uri))
        return fetch_model(address, described, context.workspace / "description")
    folder = source_folder(context.root, source)
    if (folder / "config.json").is_file():
        check_weights(folder)
        return folder
    if not any(folder.glob("*.gguf")):
        raise SourceNotFoundError(
            f"model.uri: there is no config.json in {source.uri}",
            "add the model's config.json, which has the model's sizes; weights and tokenizer may be missing",
        )
    model = resolve_model(context, source)
    return context.workspace / Workspace.base_model(model.digest)
