"""Prepare a model that no job of this volume trained, so that it is loaded and verified like an artifact."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunegate_api.contract.digests import FileManifest, files_digest
from tunegate_api.contract.workspace import Workspace
from tunegate_api.meta import Sha256
from tunegate_api.v1alpha2.finetunejob import ModelSource
from tunegate_trainer.artifacts.build import is_adapter
from tunegate_trainer.artifacts.evidence import VERDICT, ModelEvidence, evaluated_files, read_model_evidence
from tunegate_trainer.fetch import MODEL_SCHEMES, fetch_model, find_model
from tunegate_trainer.fetch.address import Address
from tunegate_trainer.fetch.model_files import choose, choose_adapter
from tunegate_trainer.models.resolve import (
    model_address,
    model_digest,
    resolve_model,
    source_folder,
    unreadable_explained,
)
from tunegate_trainer.models.safetensors import check_weights
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import SourceNotFoundError, StorageError
from tunegate_trainer.process.files import (
    MANIFEST,
    is_complete,
    refuse_unreadable,
    sha256_file,
    verify,
    write_model,
)

_ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class GivenArtifact:
    """A model or an adapter in a folder with a manifest, like an artifact."""

    folder: Path
    digest: Sha256
    """The digest of all files, as of an artifact."""
    evidence: ModelEvidence | None
    """How the model was evaluated before it was published. None if Tunegate has not published it."""


def link_artifact(context: Context, source: ModelSource, into: Path) -> GivenArtifact:
    """Create the folder ``into`` with links to the files of a model or an adapter, and with a manifest.

    Of an artifact or a published version, all files are linked except model card and evidence, so that the
    digest is that of the judged artifact. Raises the errors of
    :func:`~tunegate_trainer.models.resolve.resolve_model`, and :class:`StorageError` if such a folder was
    changed.
    """
    folder = _source_folder(context, source)
    with unreadable_explained(source.uri or "", folder):
        evidence = read_model_evidence(folder) if (folder / VERDICT).exists() else None
        is_sealed = evidence is not None or is_complete(folder)
        names = _sealed_files(folder) if is_sealed else _model_files(source.uri or "", folder)
        into.mkdir(parents=True)
        for name in names:
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            (into / name).symlink_to((folder / name).resolve())
        files = {name: sha256_file(into / name) for name in names}
    write_model(into / MANIFEST, FileManifest(files=files, digest=files_digest(files)))
    return GivenArtifact(into, files_digest(files), evidence)


def _source_folder(context: Context, source: ModelSource) -> Path:
    """Return the folder of the model. A local folder is used in place."""
    address = model_address(context, source)
    if address.scheme not in MODEL_SCHEMES:
        folder = source_folder(context.root, source)
        if not folder.is_dir():
            raise SourceNotFoundError(f"model.uri: there is no folder {source.uri}")
        return folder if _is_usable(folder) else _resolved(context, source)[0]
    return _remote_adapter(context, address) or _resolved(context, source)[0]


def _remote_adapter(context: Context, address: Address) -> Path | None:
    """Download an adapter, and return its folder. Returns None if there is a whole model at the address."""
    listed: list[str] = []

    def choose_files(names: Sequence[str]) -> list[str]:
        listed.extend(names)
        return (choose_adapter if _ADAPTER_CONFIG in names else choose)(address.uri, names)

    found = find_model(address, choose_files)
    if _ADAPTER_CONFIG not in listed:
        return None
    return fetch_model(address, found, context.workspace / context.paths.download / "adapter")


def _is_usable(folder: Path) -> bool:
    """Return whether the files in a local folder can be used as they are. A GGUF file is converted."""
    return is_adapter(folder) or (folder / "config.json").is_file()


def _sealed_files(folder: Path) -> list[str]:
    problems = verify(folder) if is_complete(folder) else ["DONE is missing"]
    refuse_unreadable(folder.name, problems)
    if problems:
        raise StorageError(
            f"model.uri: {folder.name} was changed after it was written: {'; '.join(problems)}",
            "restore it, or judge another version",
        )
    return sorted(evaluated_files(folder))


def _model_files(uri: str, folder: Path) -> list[str]:
    names = [path.name for path in folder.iterdir() if path.is_file()]
    if is_adapter(folder):
        return choose_adapter(uri, names)
    chosen = choose(uri, names)
    check_weights(folder)
    return chosen


def given_base(context: Context, source: ModelSource, *, stored: bool) -> tuple[Path, Sha256]:
    """Return the folder and the digest of a base model. A local folder is used in place, unless the model
    must be ``stored`` on the volume, where published adapters find it. Raises the errors of
    :func:`~tunegate_trainer.models.resolve.resolve_model`."""
    if not stored and model_address(context, source).scheme not in MODEL_SCHEMES:
        folder = source_folder(context.root, source)
        if (folder / "config.json").is_file():
            return folder, model_digest(source.uri or "", folder)
    return _resolved(context, source)


def _resolved(context: Context, source: ModelSource) -> tuple[Path, Sha256]:
    digest = resolve_model(context, source).digest
    folder = context.workspace / Workspace.base_model(digest)
    return folder, digest
