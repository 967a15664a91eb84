"""The CRDs on a real API server: `kubectl apply` and `kubectl explain` work, and objects can be updated."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from support.api_server import ApiServer
from support.manifests import changed, finetunejob
from support.refusals import DryRunClient
from support.structural_rules import fields
from support.waiting import eventually
from tunegate_api.schema.crd import crds

pytestmark = pytest.mark.cluster

CRDS = Path(__file__).parents[3] / "crds"
MAX_CRD = 160 * 1024
"""Maximum size in bytes of a CRD. `kubectl apply` stores the whole object in an annotation, and all
annotations of an object together may have 256 KiB. The rest is left for other tools."""

GIVEN = (".apiVersion", ".kind", ".metadata")
"""Fields that Kubernetes describes in the same way for all kinds."""


@pytest.fixture(scope="module")
def api(server: ApiServer) -> Iterator[client.ApiClient]:
    with server.client() as api:
        yield api


def call(api: client.ApiClient, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    headers = {"Accept": "application/json", "Content-Type": "application/apply-patch+yaml"}
    api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
    answer = api.call_api(method, api.configuration.host + path, headers, body)
    return answer.status, json.loads(answer.read())


@pytest.mark.parametrize("file", sorted(CRDS.glob("*.yaml")), ids=lambda file: file.stem)
def test_applying_a_crd_file_twice_changes_nothing(api: client.ApiClient, file: Path) -> None:
    crd = yaml.safe_load(file.read_text(encoding="utf-8"))
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
    apply = f"{path}?fieldManager=test&force=true&fieldValidation=Strict"
    code, first = call(api, "PATCH", apply, crd)
    assert code == 200, first
    code, second = call(api, "PATCH", apply, crd)
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert second["spec"]["versions"][0]["schema"] == crd["spec"]["versions"][0]["schema"]
    faults = [c for c in second["status"]["conditions"] if c["type"] == "NonStructuralSchema"]
    assert faults == []


@pytest.mark.parametrize("crd", crds().values(), ids=crds())
def test_crd_fits_in_the_kubectl_apply_annotation(crd: dict[str, Any]) -> None:
    size = len(json.dumps(crd, separators=(",", ":")))
    assert size < MAX_CRD, f"{size:,} bytes"


def test_kubectl_explain_describes_every_field(api: client.ApiClient) -> None:
    def served() -> dict[str, Any]:
        code, answer = call(api, "GET", "/openapi/v3/apis/tunegate.dev/v1alpha2")
        assert code == 200, answer
        schemas: dict[str, Any] = answer["components"]["schemas"]
        return schemas

    for crd in crds().values():
        name = f"dev.tunegate.v1alpha2.{crd['spec']['names']['kind']}"
        ours = dict(fields(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]))
        theirs = dict(fields(eventually(lambda name=name: served().get(name), what=f"{name} is served")))
        lost = [
            path
            for path, field in ours.items()
            if field.get("description") != theirs.get(path, {}).get("description")
            and not path.startswith(GIVEN)
        ]
        assert lost == []


def test_job_that_violates_a_new_rule_can_be_updated(api: client.ApiClient) -> None:
    (crd,) = (crd for crd in crds().values() if crd["spec"]["names"]["kind"] == "FineTuneJob")
    earlier = copy.deepcopy(crd)
    (version,) = earlier["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    name = spec["podTemplate"]["properties"]["env"]["items"]["properties"]["name"]
    assert name.pop("x-kubernetes-validations")
    applied = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
    applied += "?fieldManager=test&force=true"
    dry_run, custom = DryRunClient(api), client.CustomObjectsApi(api)
    where = ("tunegate.dev", "v1alpha2", "default", "finetunejobs")
    job = changed(finetunejob(), {"spec.podTemplate.env": [{"name": "MY_OWN", "value": "x"}]})
    try:
        assert call(api, "PATCH", applied, earlier)[0] == 200
        eventually(lambda: dry_run.create(job) == [], what="the earlier definition is in force")
        custom.create_namespaced_custom_object(*where, job)
    finally:
        assert call(api, "PATCH", applied, crd)[0] == 200
    name = job["metadata"]["name"]
    try:
        later = job | {"metadata": {"name": "later"}}
        eventually(lambda: dry_run.create(later) != [], what="the definition of today is in force")
        custom.patch_namespaced_custom_object_status(*where, name, {"status": {"phase": "Training"}})
        custom.patch_namespaced_custom_object(*where, name, {"spec": {"suspend": True}})
        assert custom.get_namespaced_custom_object(*where, name)["status"]["phase"] == "Training"
    finally:
        custom.delete_namespaced_custom_object(*where, name)
