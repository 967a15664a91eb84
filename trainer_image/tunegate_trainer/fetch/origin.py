"""Identify which servers a download comes from, apart from its address.

The owner of a job chooses endpoints, proxies and certificate authorities. With another of these, another
server may answer for the same address, even for a pinned commit, because no client can verify a commit by its
files.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from tunegate_api.contract.digests import files_digest
from tunegate_trainer.fetch.address import Address
from tunegate_trainer.process.files import sha256_file

VALUES = (
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    "HF_ENDPOINT",
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"),
    *("AWS_USE_DUALSTACK_ENDPOINT", "AWS_USE_FIPS_ENDPOINT"),
)
"""Variables, in the environment or in the Secret of an address, that decide which server is asked."""
PATHS = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "AWS_CA_BUNDLE",
    "AWS_CONFIG_FILE",
)
"""Variables with the path of a file or folder whose content decides which servers are trusted or asked."""


def origin(address: Address) -> str:
    """Return a digest of the variables that decide which servers a download from ``address`` comes from, and
    of the files that they name. Returns an empty string if none is set."""
    known: dict[str, str] = {}
    for name in (*VALUES, *PATHS):
        value = os.environ.get(name)
        if value:
            known[name] = _content(Path(value)) if name in PATHS else value
    secret: Mapping[str, str] = address.secret or {}
    known |= {f"Secret {name}": secret[name] for name in VALUES if secret.get(name)}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest() if known else ""


def _content(path: Path) -> str:
    """Return a digest of a file, or of the files in a folder, or the path itself if it cannot be read."""
    try:
        if path.is_dir():
            return files_digest({file.name: sha256_file(file) for file in path.iterdir() if file.is_file()})
        return sha256_file(path)
    except OSError:
        return str(path)
