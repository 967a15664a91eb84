"""A real API server with the Job controller, for a whole module of tests."""

from collections.abc import Iterator

import pytest
from kubernetes import client

from support.api_server import ApiServer, api_server
from support.operator_command import NAMESPACE


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("api-server")) as server, server.client() as api:
        client.CoreV1Api(api).create_namespace({"metadata": {"name": NAMESPACE}})
        yield server
