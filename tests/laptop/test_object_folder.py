"""Object files are written so that kubectl reads what was stored."""

from pathlib import Path

import pytest

from tunegate_client.laptop.object_folder import to_yaml
from tunegate_client.manifests import load_manifests


@pytest.mark.parametrize("text", ["y", "N", "0o17", "-0X1F", "0B11", "1_0.5", "08", "1e3", "on", "~", "a\nb"])
def test_text_that_looks_like_another_type_is_read_as_text(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(to_yaml({"apiVersion": "v1", "kind": "A", "value": text}))
    (manifest,) = load_manifests([path])  # gives plain scalars the types that kubectl gives them
    assert manifest.obj["value"] == text
