"""Write the krew manifest of `kubectl tunegate`, and the archive that it refers to.

Usage: ``python tools/krew.py URL FOLDER``. URL is the address at which ``tunegate-plugin.tar.gz`` will be
published. The archive has only a script, because the plugin is a Python package: the script runs the release
of this version with uv, which installs it into a cache at the first call.
"""

import gzip
import hashlib
import io
import sys
import tarfile
from pathlib import Path

import yaml

from tunegate_api import __version__

ROOT = Path(__file__).parents[1]
ARCHIVE, MANIFEST, SCRIPT = "tunegate-plugin.tar.gz", "tunegate.yaml", "kubectl-tunegate"
_SCRIPT = f"""#!/bin/sh
if ! command -v uv > /dev/null; then
  echo "kubectl tunegate needs uv: install it, or install the package tunegate[client] with pipx" >&2
  exit 1
fi
exec uv tool run --quiet --from 'tunegate[client]=={__version__}' kubectl-tunegate "$@"
"""


def archive() -> bytes:
    """Return the archive. It has the same bytes each time, so that its digest is reproducible."""
    files = {SCRIPT: (_SCRIPT.encode(), 0o755), "LICENSE": ((ROOT / "LICENSE").read_bytes(), 0o644)}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), mtime=0)


def manifest(url: str, content: bytes) -> str:
    """Return the manifest for an archive that is published at ``url``."""
    systems = {"key": "os", "operator": "In", "values": ["linux", "darwin"]}
    plugin = {
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "tunegate"},
        "spec": {
            "version": f"v{__version__}",
            "shortDescription": "Show and change fine-tuning jobs of Tunegate",
            "description": "Shows the progress, checkpoints, verdicts, logs and reports of FineTuneJobs, and "
            "records decisions about jobs that a gate stopped.\n",
            "caveats": "Needs uv, which installs the plugin's Python package at the first call.\n",
            "platforms": [
                {
                    "selector": {"matchExpressions": [systems]},
                    "uri": url,
                    "sha256": hashlib.sha256(content).hexdigest(),
                    "bin": SCRIPT,
                }
            ],
        },
    }
    return yaml.safe_dump(plugin, sort_keys=False)


def main(url: str, folder: Path) -> None:
    """Write both files."""
    content = archive()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ARCHIVE).write_bytes(content)
    (folder / MANIFEST).write_text(manifest(url, content), encoding="utf-8")
    print(f"{folder / MANIFEST}\n{folder / ARCHIVE}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], Path(sys.argv[2]))
