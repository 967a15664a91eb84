"""The krew manifest of `kubectl tunegate` refers to an archive whose script runs the plugin."""

import hashlib
import os
import subprocess
import tarfile
from pathlib import Path

import yaml
from tools import krew

URL = "https://example.com/tunegate-plugin.tar.gz"


def unpacked(folder: Path) -> Path:
    """Write both files, and unpack the archive as krew does. Returns the path of the script."""
    krew.main(URL, folder)
    with tarfile.open(folder / krew.ARCHIVE) as archive:
        archive.extractall(folder / "plugin", filter="data")
    return folder / "plugin" / krew.SCRIPT


def run(script: Path, path: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": str(path)}
    return subprocess.run(
        [script, "status", "a b"], env=environment, capture_output=True, text=True, check=False
    )


def test_manifest_has_the_digest_and_the_script_of_the_archive(tmp_path: Path) -> None:
    unpacked(tmp_path)
    (platform,) = yaml.safe_load((tmp_path / krew.MANIFEST).read_text())["spec"]["platforms"]
    assert platform["uri"] == URL
    assert platform["sha256"] == hashlib.sha256((tmp_path / krew.ARCHIVE).read_bytes()).hexdigest()
    assert (tmp_path / "plugin" / platform["bin"]).stat().st_mode & 0o111
    assert (tmp_path / "plugin" / "LICENSE").exists(), "krew requires a license file"


def test_script_runs_this_release_with_its_arguments(tmp_path: Path) -> None:
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    uv.chmod(0o755)
    done = run(unpacked(tmp_path), uv.parent)
    assert done.stdout.splitlines() == [
        *("tool", "run", "--quiet", "--from", f"tunegate[client]=={krew.__version__}"),
        *("kubectl-tunegate", "status", "a b"),
    ]


def test_script_without_uv_names_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    done = run(unpacked(tmp_path), tmp_path / "bin")
    assert (done.returncode, done.stdout) == (1, "")
    assert "kubectl tunegate needs uv" in done.stderr


def test_archive_has_the_same_bytes_each_time() -> None:
    assert krew.archive() == krew.archive()
