"""In a pod with a service account, the operator and the user's command choose their credentials."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config
from kubernetes.config import kube_config

from tunegate_operator.engine.connection import connect, connect_user

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


def write_kubeconfig(path: Path, current: str | None = "there") -> str:
    """Write a kubeconfig with two contexts, one of which has a namespace. Returns its path."""
    made: dict[str, Any] = {
        "contexts": [
            {"name": "there", "context": {"cluster": "there", "user": "me"}},
            {"name": "team", "context": {"cluster": "other", "user": "me", "namespace": "team-a"}},
        ],
        "clusters": [
            {"name": "there", "cluster": {"server": OF_USER}},
            {"name": "other", "cluster": {"server": "https://other"}},
        ],
        "users": [{"name": "me", "user": {"token": "mine"}}],
        **({"current-context": current} if current else {}),
    }
    path.write_text(yaml.safe_dump(made))
    return str(path)


def test_operator_uses_service_account_and_user_uses_kubeconfig(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_kubeconfig(tmp_path / "config")
    use_kubeconfig(monkeypatch, f"{path}:{tmp_path / 'none'}")
    assert connect(threads=1).configuration.host == OF_POD
    found = connect_user(None, None, threads=1)
    assert (found.api.configuration.host, found.context, found.namespace) == (OF_USER, "there", "default")


@pytest.mark.parametrize("current", ["there", None])
def test_user_chooses_a_kubeconfig_and_a_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, current: str | None
) -> None:
    use_kubeconfig(monkeypatch, "/nowhere/config")
    found = connect_user(write_kubeconfig(tmp_path / "config", current), "team", threads=1)
    assert (found.api.configuration.host, found.namespace) == ("https://other", "team-a")


@pytest.mark.parametrize("location", ["", "/nowhere/config", "/nowhere/config:"])
def test_user_without_kubeconfig_uses_the_service_account(
    location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_kubeconfig(monkeypatch, location)
    assert connect_user(None, None, threads=1).api.configuration.host == OF_POD


def test_missing_kubeconfig_or_context_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigException, match="there is no kubeconfig /nowhere/config"):
        connect_user("/nowhere/config", None, threads=1)
    path = write_kubeconfig(tmp_path / "config")
    with pytest.raises(config.ConfigException, match="name prod"):
        connect_user(path, "prod", threads=1)
