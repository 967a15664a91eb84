"""The images install the versions that the tests run with."""

import re
import tomllib
from pathlib import Path

import pytest

from support.inspect_ai import VERSION as INSPECT_VERSION

ROOT = Path(__file__).parents[1]
PINNED = re.compile(r"^([a-z0-9._-]+)==(\S+)", re.MULTILINE)


def pinned(name: str) -> dict[str, str]:
    return dict(PINNED.findall((ROOT / "requirements" / name).read_text()))


@pytest.mark.parametrize("side", ["operator", "client", "trainer"])
def test_image_requirements_are_pinned_to_the_tested_versions(side: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + project["optional-dependencies"][side]
    found = pinned(f"{side}.txt")
    assert {re.split(r"[<>=;]", line)[0] for line in asked} <= found.keys()
    assert found.items() <= pinned("dev.txt").items()


@pytest.mark.parametrize("folder", ["operator", "client", "trainer_image"])
def test_images_use_the_uv_version_of_the_makefile(folder: str) -> None:
    (version,) = re.findall(r"^UV_VERSION := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert re.findall(r"uv:([0-9.]+)$", (ROOT / folder / "Dockerfile").read_text(), re.MULTILINE) == [version]


def test_benchmarked_inspect_ai_computes_with_the_libraries_of_tunegate() -> None:
    found, tested = pinned("inspect-ai.txt"), pinned("dev.txt")
    assert found["inspect-ai"] == INSPECT_VERSION
    for library in ("torch", "transformers"):
        assert found[library] == tested[library]
