"""Which cluster a client speaks to, in a pod that has a service account."""

from pathlib import Path

import pytest
import yaml
from kubernetes import client, config
from kubernetes.config import kube_config

from tunegate_operator.engine.kubernetes import connect

OF_POD, OF_USER = "https://of-the-pod", "https://of-the-user"


@pytest.fixture(autouse=True)
def in_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its token would lie in a folder that only a pod has."""

    def load(configuration: client.Configuration) -> None:
        configuration.host = OF_POD

    monkeypatch.setattr(config, "load_incluster_config", load)


def use_kubeconfig(monkeypatch: pytest.MonkeyPatch, location: str) -> None:
    """As KUBECONFIG says it, which the client reads when it is imported."""
    for module in (config, kube_config):
        monkeypatch.setattr(module, "KUBE_CONFIG_DEFAULT_LOCATION", location)


def test_the_operator_speaks_to_its_own_cluster_and_a_user_to_that_of_the_kubeconfig(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {
        "current-context": "there",
        "contexts": [{"name": "there", "context": {"cluster": "there", "user": "me"}}],
        "clusters": [{"name": "there", "cluster": {"server": OF_USER}}],
        "users": [{"name": "me", "user": {"token": "mine"}}],
    }
    (tmp_path / "config").write_text(yaml.safe_dump(made))
    use_kubeconfig(monkeypatch, f"{tmp_path / 'config'}:{tmp_path / 'none'}")
    assert connect(threads=1).configuration.host == OF_POD
    assert connect(threads=1, of_user=True).configuration.host == OF_USER


@pytest.mark.parametrize("location", ["", "/nowhere/config", "/nowhere/config:"])
def test_without_a_kubeconfig_a_user_has_the_pods_own_cluster(
    location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_kubeconfig(monkeypatch, location)
    assert connect(threads=1, of_user=True).configuration.host == OF_POD
