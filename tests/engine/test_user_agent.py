"""Requests name the program that sends them, and what it writes has its field manager."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from support import manifests
from support.api_server import OPERATOR, ApiServer, api_server
from support.operator_command import OperatorCommand, grant_rights
from support.stores.web_server import Response, WebServer
from support.team import Team
from support.waiting import eventually
from tunegate_api import __version__
from tunegate_operator.engine.clock import SystemClock
from tunegate_operator.engine.cluster import Key
from tunegate_operator.engine.connection import connect_user
from tunegate_operator.engine.kubernetes import KubernetesCluster


def kubeconfig(path: Path, url: str) -> str:
    """Write a kubeconfig for a server without TLS. Returns its path."""
    content = {
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_command_requests_have_user_agent_and_writes_field_manager(tmp_path: Path) -> None:
    made = manifests.config_map("scores", {})
    made["metadata"]["namespace"] = "default"
    with WebServer(lambda _: Response(body=json.dumps(made).encode())) as server:
        found = connect_user(kubeconfig(tmp_path / "config", f"http://127.0.0.1:{server.port}"), None, 1)
        cluster = KubernetesCluster(found.api, SystemClock())
        cluster.get(Key.of(made))
        cluster.create(made)
    read, written = server.requests
    assert {each.headers["User-Agent"] for each in (read, written)} == {f"tunegate/{__version__}"}
    assert (read.query, written.query) == ({}, {"fieldManager": "tunegate"})


def agents(server: ApiServer) -> dict[str, set[str]]:
    """Return the user agents of the operator's requests by verb, from the audit log."""
    found: dict[str, set[str]] = {}
    for line in server.audit_log.read_text().splitlines():
        event = json.loads(line)
        if event["user"]["username"] == OPERATOR:
            found.setdefault(event["verb"], set()).add(event.get("userAgent", ""))
    return found


def owned_config_maps(api: client.ApiClient) -> list[Any]:
    """Return the ConfigMaps in the team's namespace that the operator created."""
    listed = client.CoreV1Api(api).list_namespaced_config_map("team").items
    return [each for each in listed if each.metadata.owner_references]


@pytest.mark.cluster
def test_operator_requests_have_its_user_agent_and_field_manager(tmp_path: Path) -> None:
    with api_server(tmp_path, audit=True) as server, server.client() as api:
        grant_rights(api)
        team = Team(api, "team")
        operator = OperatorCommand(server, tmp_path / "operator.log")
        try:
            team.apply_all()
            (request,) = eventually(lambda: owned_config_maps(api), seconds=60, what="the request")
            job = team.job()
        finally:
            operator.stop()
        found = agents(server)
    assert found.keys() >= {"list", "watch", "get", "create", "patch", "update"}
    assert set().union(*found.values()) == {f"tunegate-operator/{__version__}"}, found
    managers = {each["manager"]: each.get("subresource") for each in job["metadata"]["managedFields"]}
    assert managers["tunegate-operator"] == "status"
    assert {each.manager for each in request.metadata.managed_fields} == {"tunegate-operator"}
