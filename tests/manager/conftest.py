"""Fixtures: a real API server with the Job controller, one per test module."""

import itertools
from collections.abc import Iterator

import pytest
from kubernetes import client

from support.api_server import ApiServer, api_server
from support.fake_kubelet import Address, FakeKubelet
from support.helm import NAMESPACE
from support.operator_command import SERVICE, grant_rights
from support.team import Team

_names = (f"team-{n}" for n in itertools.count())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("api-server")) as server, server.client() as api:
        grant_rights(api)
        yield server


@pytest.fixture
def api(server: ApiServer) -> Iterator[client.ApiClient]:
    with server.client(connection_pool_maxsize=40) as api:
        yield api


@pytest.fixture
def team(api: client.ApiClient) -> Team:
    return Team(api, next(_names))


@pytest.fixture
def kubelet(api: client.ApiClient) -> FakeKubelet:
    return FakeKubelet(api, Address(api, NAMESPACE, SERVICE))
