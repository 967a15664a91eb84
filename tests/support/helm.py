"""Run the real helm on this repository's chart."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "tunegate"
RELEASE = "tunegate"
NAMESPACE = "tunegate-system"

Objects = dict[tuple[str, str], dict[str, Any]]
"""The objects of the chart by kind and name. If several namespaces have an object with the same name, it is
the last of these objects."""


def chart_with_one_more_field(folder: Path) -> Path:
    """Copy the chart, with a field that a later release may add: ``spec.mixing`` of a FineTuneJob."""
    chart = folder / "tunegate"
    shutil.copytree(CHART, chart)
    path = chart / "files" / "tunegate.dev_finetunejobs.yaml"
    crd = yaml.safe_load(path.read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"]["mixing"] = {"type": "string", "maxLength": 64}
    path.write_text(yaml.safe_dump(crd))
    return chart


class Helm:
    """The helm program, built at its first use."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        built = subprocess.run(
            [ROOT / "tests" / "cluster" / "build.sh", "helm"], check=True, stdout=subprocess.PIPE, text=True
        )
        self._program = Path(built.stdout.strip()) / "helm"
        self._environment = {**os.environ, **(environment or {})}

    def __call__(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._program, *arguments], env=self._environment, capture_output=True, text=True, check=False
        )

    def render(self, *values: str) -> Objects:
        """Return the objects that an installation with these ``--set`` arguments would create."""
        images = ("image.repository=mine/operator", "trainerImage.repository=mine/trainer")
        sets = [argument for value in (*images, *values) for argument in ("--set", value)]
        done = self("template", RELEASE, CHART, "--namespace", NAMESPACE, *sets)
        assert done.returncode == 0, done.stderr
        return {(obj["kind"], obj["metadata"]["name"]): obj for obj in yaml.safe_load_all(done.stdout) if obj}
