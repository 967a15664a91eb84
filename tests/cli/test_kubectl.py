"""The real kubectl finds the plugin and its completion."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from support import manifests
from support.kubectl import kubectl_program
from support.places import CommandAt

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def kubectl() -> Path:
    return kubectl_program()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder with the scripts that an installation of the package creates."""
    folder = tmp_path / "bin"
    folder.mkdir()
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for name, target in scripts.items():
        module, _, function = target.partition(":")
        script = folder / name
        script.write_text(f"#!{sys.executable}\nfrom {module} import {function}\n{function}()\n")
        script.chmod(0o755)
    return folder


@pytest.mark.cluster
def test_kubectl_runs_and_completes_the_plugin(kubectl: Path, path: Path, on_cluster: CommandAt) -> None:
    on_cluster.place.create(manifests.finetunejob())
    environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}"}

    def output(*arguments: str) -> str:
        done = subprocess.run(
            [kubectl, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "orders   Pending" in output("tunegate", "status", *on_cluster.place.options)
    completions = output("__complete", "tunegate", "logs", *on_cluster.place.options, "ord")
    assert completions.splitlines() == ["orders", ":4"]
