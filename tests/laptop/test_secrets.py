"""On a laptop, the Secrets in the manifests are available only to the pods that need them."""

import pytest

from support.command import manifests
from support.stores.model_hub import COMMIT, TOKEN, ModelHub, Repository

pytestmark = [pytest.mark.model, pytest.mark.exhaustive]


def test_private_model_is_fetched_with_a_secret_from_the_manifests(cold, tiny_model, monkeypatch):
    files = {path.name: path.read_bytes() for path in tiny_model.iterdir()}
    hub = ModelHub({"org/tiny": Repository(files, is_private=True)})
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "hub"},
        "stringData": {"HF_TOKEN": TOKEN},
    }
    model = {"uri": "hf://org/tiny", "revision": COMMIT, "secretName": "hub"}
    cold.write_all([secret, *manifests(tiny_model, model=model)])
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with hub.cdn, hub.server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.server.port}")
        planned = cold("plan", "manifests")
        assert planned.returncode == 0, planned.stdout
        result = cold("run", "manifests")
    assert result.returncode == 0, result.stdout
    written = [path for path in cold.runs.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]
    (stored,) = (path for path in written if path.name == "hub.yaml")
    assert stored.stat().st_mode & 0o077 == 0
