"""Digests of texts and folders."""

import hashlib
import json
from collections.abc import Mapping

from tunegate_api.meta import Sha256, StatusModel


class FileManifest(StatusModel):
    """The manifest.json of a checkpoint or an artifact: its files and their digests."""

    files: dict[str, Sha256]
    digest: Sha256
    """Digest of all files, see :func:`files_digest`. The manifest of a published version has the digest of
    the judged artifact: its model card and evidence are not included."""


def files_digest(files: Mapping[str, Sha256]) -> Sha256:
    """Return the digest of a folder: the SHA-256 of the names and digests of its files as JSON, with sorted
    keys and without spaces. The files include the tokenizer and the chat template."""
    return sha256_text(json.dumps(dict(files), sort_keys=True, separators=(",", ":")))


def canonical_json(model: StatusModel) -> str:
    """Return the model as JSON with sorted keys and without spaces, so that equal content has the same
    text."""
    return json.dumps(
        model.model_dump(mode="json", by_alias=True, exclude_none=True), sort_keys=True, separators=(",", ":")
    )


def sha256_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
