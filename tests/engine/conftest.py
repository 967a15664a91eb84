"""Fixtures of the engine's tests."""

from collections.abc import Iterator

import pytest

from support.api_server import ApiServer
from support.operator_process import watching
from tunegate_operator.engine.clock import SystemClock
from tunegate_operator.engine.kubernetes import KubernetesCluster


@pytest.fixture(scope="session")
def kubernetes(server: ApiServer) -> Iterator[KubernetesCluster]:
    """The real API server as a cluster, watched by Kopf as in production."""
    with server.client() as api:
        cluster = KubernetesCluster(api, SystemClock(), instance="operator-0")
        with watching(cluster, server.kubeconfig):
            yield cluster
