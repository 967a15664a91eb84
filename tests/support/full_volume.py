"""Run the trainer on a real volume that is full or read-only, in a separate mount namespace."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tunegate_api.contract.process import ROOT_VARIABLE, Termination
from tunegate_trainer.process.files import sha256_file

OWN_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")
_SIZE = 64 * 1024
"""Size of the small volume in bytes."""
_FULL = """
kept="$1.kept"; cp -a "$1" "$kept"
mount -t tmpfs -o size=$2 tmpfs "$1"; cp -a "$kept/." "$1"; rm -r "$kept"
dd if=/dev/zero of="$1/filler" bs=4096 count=1000 2>/dev/null; truncate -s -"$3" "$1/filler"
folder="$1"; shift 3; "$@"; code=$?
rm "$folder/filler"; cp -a "$folder" "$kept"; exit $code
"""
_READ_ONLY = """
mount --bind "$1" "$1"; mount -o remount,ro,bind "$1"
shift; exec "$@"
"""


def run_full(root: Path, folder: Path, room: int, *args: str) -> Termination:
    """Run the trainer with ``folder`` as a volume with ``room`` free bytes, a multiple of 4 KiB.

    Afterwards ``folder`` has the files of the volume.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ended = _run(root, _FULL, str(folder), str(_SIZE + room), str(room), args=args)
    shutil.rmtree(folder)
    folder.with_name(f"{folder.name}.kept").rename(folder)
    return ended


def run_read_only(root: Path, folder: Path, *args: str) -> Termination:
    """Run the trainer with ``folder`` mounted read-only."""
    return _run(root, _READ_ONLY, str(folder), args=args)


def has_mounts() -> bool:
    """Return whether this machine lets users mount volumes; some hardened machines do not."""
    tried = subprocess.run([*OWN_MOUNTS, "true"], capture_output=True, check=False)
    return tried.returncode == 0


def _run(root: Path, script: str, *parameters: str, args: tuple[str, ...]) -> Termination:
    trainer = [sys.executable, "-m", "tunegate_trainer", *args]
    done = subprocess.run(
        [*OWN_MOUNTS, "sh", "-uc", script, "sh", *parameters, *trainer],
        env=os.environ | {ROOT_VARIABLE: str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    ended = Termination.model_validate_json((root / "termination.json").read_bytes())
    assert done.returncode == ended.exit_code, done.stderr
    return ended


def all_files(folder: Path) -> dict[str, str]:
    """Return the digest of every file below a folder, by name."""
    return {str(p.relative_to(folder)): sha256_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}
