"""In a pod with a service account, the operator and the user's command choose their credentials."""

from pathlib import Path

import pytest
import yaml
from kubernetes import client, config
from kubernetes.config import kube_config

from tunegate_operator.engine.kubernetes import connect

OF_POD, OF_USER = "https://of-the-pod", "https://of-the-user"


@pytest.fixture(autouse=True)
def in_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    """Act as if this process ran in a pod: use a fake service account instead of the folder that pods
    have."""

    def load(configuration: client.Configuration) -> None:
        configuration.host = OF_POD

    monkeypatch.setattr(config, "load_incluster_config", load)


def use_kubeconfig(monkeypatch: pytest.MonkeyPatch, location: str) -> None:
    """Set the path of the kubeconfig. Setting KUBECONFIG is not enough, because the client read this variable
    when it was imported."""
    for module in (config, kube_config):
        monkeypatch.setattr(module, "KUBE_CONFIG_DEFAULT_LOCATION", location)


def test_operator_uses_service_account_and_user_uses_kubeconfig(
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
def test_user_without_kubeconfig_uses_the_service_account(
    location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_kubeconfig(monkeypatch, location)
    assert connect(threads=1, of_user=True).configuration.host == OF_POD
