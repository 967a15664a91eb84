"""``oci://``: models as artifacts in an OCI registry, see the distribution and image specifications.

Three layouts are supported: one layer per file, named by an annotation (ORAS, ModelPack); layers that are tar
archives of files (ModelKits); and image layers with a folder that holds the model (modelcars).
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from platform import machine as machine_name
from typing import Any

import httpx2

from tunegate_trainer.fetch.address import Address, Choose, RemoteFile, RemoteModel, Stream
from tunegate_trainer.fetch.checksum import Checksum
from tunegate_trainer.fetch.network import with_retries
from tunegate_trainer.fetch.oci_layers import Layer, check_paths, model_folder, unpack
from tunegate_trainer.fetch.registry import Registry, Repository
from tunegate_trainer.process.errors import BadDataError

_REFERENCE = re.compile(
    r"(?P<registry>[^/@]+)/(?P<name>[^:@]+)(:(?P<tag>[^:@/]+))?(@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_NAMES = ("org.opencontainers.image.title", "org.cncf.model.filepath")
"""Annotations that name the file of a layer."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_MAX_MANIFEST = 4 << 20
"""Maximum size of a manifest in bytes. Registries must accept manifests up to this size."""
_PUSH_AGAIN = "push the artifact again, with a client that writes OCI manifests"


@dataclass(frozen=True)
class Reference:
    """REGISTRY/NAME with a tag or a digest."""

    repository: Repository
    tag: str | None
    digest: str | None

    @classmethod
    def parse(cls, address: Address) -> "Reference":
        match = _REFERENCE.fullmatch(address.rest)
        if match is None or not (match["tag"] or match["digest"]):
            raise address.wrong(
                "the address of an artifact must be oci://REGISTRY/NAME:TAG or "
                "oci://REGISTRY/NAME@sha256:DIGEST"
            )
        return cls(Repository(match["registry"], match["name"]), match["tag"], match["digest"])


def pinned(address: Address) -> str | None:
    """Return the digest if the address has one, else None."""
    return Reference.parse(address).digest


def find_model(address: Address, choose: Choose) -> RemoteModel:
    """Return the needed layers of the model, each as a file to download. A tag is resolved to the digest of
    its manifest or index."""
    reference = Reference.parse(address)
    registry = Registry(address, reference.repository)
    digest, manifest = with_retries(address.field, lambda: _manifest(address, registry, reference))
    with _damage_reported(address):
        layers = list(dict.fromkeys(_layer(address, entry) for entry in manifest.get("layers", [])))
    check_paths(address, layers)
    chosen = layers
    if any(layer.is_weights for layer in layers):
        # Each file is a layer, so only the layers of needed files are downloaded.
        files_by_path = {layer.path: layer for layer in layers if not layer.is_archive}
        folder = model_folder(list(files_by_path))
        in_folder = {path.name: layer for path, layer in files_by_path.items() if path.parent == folder}
        chosen = [in_folder[name] for name in choose(list(in_folder))]
    if not chosen:
        raise address.not_found(f"{address.uri} has no layers that could hold a model")
    files = tuple(
        RemoteFile(
            layer.file_name,
            layer.size,
            Checksum("sha256", layer.digest.removeprefix("sha256:")),
            partial(_read, registry, layer.digest),
        )
        for layer in chosen
    )
    return RemoteModel(files, revision=digest, unpack=partial(unpack, address, tuple(chosen)))


def _manifest(address: Address, registry: Registry, reference: Reference) -> tuple[str, Mapping[str, Any]]:
    """Return the digest of the manifest or index at the address, and the manifest of the model.

    In an index, this is the manifest for this platform.
    """
    digest, manifest = _document(address, registry, reference.digest or str(reference.tag))
    if reference.digest is not None and digest != reference.digest:
        raise BadDataError(
            f"{address.field}: the registry sent a manifest with digest {digest}, not that in {address.uri}",
            "do not use this content: the registry, or a proxy in front of it, changed it",
        )
    if "manifests" not in manifest:
        return digest, manifest
    with _damage_reported(address):
        chosen = _for_this_platform(address, manifest["manifests"])
    found, inner = _document(address, registry, chosen)
    if found != chosen:
        raise BadDataError(
            f"{address.field}: the index {address.uri} lists the manifest {chosen}, but the registry sent "
            f"one with digest {found}",
            _PUSH_AGAIN,
        )
    return digest, inner


def _document(address: Address, registry: Registry, name: str) -> tuple[str, Mapping[str, Any]]:
    with registry.get(f"manifests/{name}", {"Accept": ", ".join(_MANIFESTS)}) as response:
        content = b""
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > _MAX_MANIFEST:
                raise BadDataError(
                    f"{address.field}: the manifest of {address.uri} is larger than 4 MiB", _PUSH_AGAIN
                )
    with _damage_reported(address):
        manifest = json.loads(content)
        manifest["schemaVersion"]
    return f"sha256:{hashlib.sha256(content).hexdigest()}", manifest


@contextmanager
def _damage_reported(address: Address) -> Iterator[None]:
    """Raise :class:`BadDataError` if a value in a manifest is missing or has another type."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadDataError(
            f"{address.field}: the manifest of {address.uri} is not an OCI manifest", _PUSH_AGAIN
        ) from error


def _for_this_platform(address: Address, manifests: Sequence[Mapping[str, Any]]) -> str:
    """Return the digest of a manifest in an index: the only one, or else the one for Linux on this machine's
    architecture."""
    machine = _ARCHITECTURES.get(machine_name(), machine_name())
    matching = manifests if len(manifests) == 1 else [one for one in manifests if _is_for(one, machine)]
    if not matching:
        raise address.not_found(f"{address.uri} has no manifest for linux/{machine}")
    return str(matching[0]["digest"])


def _is_for(manifest: Mapping[str, Any], machine: str) -> bool:
    platform = manifest.get("platform") or {}
    return (platform.get("os"), platform.get("architecture")) == ("linux", machine)


def _layer(address: Address, entry: Mapping[str, Any]) -> Layer:
    digest, media_type = str(entry.get("digest", "")), str(entry.get("mediaType", ""))
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise BadDataError(f"{address.field}: {address.uri} has a layer without a sha256 digest", _PUSH_AGAIN)
    annotations = entry.get("annotations") or {}
    title = next((str(annotations[name]) for name in _NAMES if annotations.get(name)), "")
    if media_type.endswith("+zstd"):
        raise address.wrong(
            "the artifact's layers are compressed with zstd, which is not supported",
            "push the artifact again with gzip layers or uncompressed layers",
        )
    is_archive = "tar" in re.split(r"[.+]", media_type)
    # A layer without a title is, for example, a README or the tool's own data.
    parts = PurePosixPath(title or digest.removeprefix("sha256:")).parts
    path = PurePosixPath(*(part for part in parts if part not in ("/", "..")))
    return Layer(digest, int(entry.get("size", 0)), path, is_archive)


@contextmanager
def _read(registry: Registry, digest: str, start: int) -> Iterator[Stream]:
    # Without compression, because the digest is that of the stored bytes.
    headers = {"Accept-Encoding": "identity", "Range": f"bytes={start}-"}
    with registry.get(f"blobs/{digest}", headers) as response:
        partial_content = response.status_code == httpx2.codes.PARTIAL_CONTENT
        yield Stream(start if partial_content else 0, response.iter_raw())
