"""Connect to an API server: the operator with its service account, a user with a kubeconfig."""

import os
from dataclasses import dataclass
from pathlib import Path

from kubernetes import client, config
from kubernetes.config import kube_config

from tunegate_api import __version__

OPERATOR_AGENT = f"tunegate-operator/{__version__}"
USER_AGENT = f"tunegate/{__version__}"
"""The names of the operator and of the command in the header User-Agent, in the API server's audit log. The
part before the slash is also the field manager of what they write."""
DEFAULT_NAMESPACE = "default"
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_IN_CLUSTER = "in-cluster"
"""Stands for the name of the context if the service account of this pod is used."""


@dataclass(frozen=True)
class UserConnection:
    """A client with a user's credentials, and what the user's kubeconfig selects."""

    api: client.ApiClient
    context: str
    namespace: str


def connect(threads: int) -> client.ApiClient:
    """Return a client that uses the pod's service account or, outside a pod, the user's kubeconfig.

    ``threads`` is the number of threads that may use the client at once. Raises
    ``kubernetes.config.ConfigException`` if there is neither a service account nor a kubeconfig.
    """
    configuration = client.Configuration()
    try:
        config.load_incluster_config(configuration)
    except config.ConfigException:
        config.load_kube_config(client_configuration=configuration)
    return _api_client(configuration, threads, OPERATOR_AGENT)


def connect_user(kubeconfig: str | None, context: str | None, threads: int) -> UserConnection:
    """Return a client with a user's credentials, chosen as in kubectl.

    ``kubeconfig`` is a path; None stands for the paths in ``KUBECONFIG`` or the usual path. ``context`` is
    the name of a context in it; None stands for the current context. Without a kubeconfig, the service
    account of this pod is used. Raises ``kubernetes.config.ConfigException`` if there is neither.
    """
    configuration = client.Configuration()
    if kubeconfig is None and context is None and not _has_kubeconfig():
        try:
            config.load_incluster_config(configuration)
        except config.ConfigException as error:
            raise config.ConfigException("there is no kubeconfig") from error
        return UserConnection(
            _api_client(configuration, threads, USER_AGENT), _IN_CLUSTER, _namespace_of_pod()
        )
    merged = kube_config.KubeConfigMerger(kubeconfig or config.KUBE_CONFIG_DEFAULT_LOCATION)
    if merged.config is None:
        raise config.ConfigException(f"there is no kubeconfig {kubeconfig or ''}".strip())
    loader = kube_config.KubeConfigLoader(
        merged.config, active_context=context, config_base_path=None, config_persister=merged.save_changes
    )
    loader.load_and_set(configuration)
    chosen = loader.current_context
    namespace = chosen["context"].get("namespace") or DEFAULT_NAMESPACE
    return UserConnection(_api_client(configuration, threads, USER_AGENT), chosen["name"], namespace)


def _api_client(configuration: client.Configuration, threads: int, agent: str) -> client.ApiClient:
    configuration.connection_pool_maxsize = threads
    configuration.retries = False
    api = client.ApiClient(configuration)
    api.user_agent = agent
    return api


def _has_kubeconfig() -> bool:
    paths = config.KUBE_CONFIG_DEFAULT_LOCATION.split(os.pathsep)
    return any(path and os.path.exists(os.path.expanduser(path)) for path in paths)


def _namespace_of_pod() -> str:
    try:
        return _POD_NAMESPACE.read_text(encoding="utf-8").strip()
    except OSError:
        return DEFAULT_NAMESPACE
