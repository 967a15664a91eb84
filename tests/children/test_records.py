"""Only a ConfigMap that the job controls is its record."""

from typing import Any

import pytest

from support.builders import make_job
from support.manifests import changed
from tunegate_api.contract.request import Request
from tunegate_api.v1alpha2 import FineTuneJob
from tunegate_operator.children.records import read_record
from tunegate_operator.engine.cache import Cache
from tunegate_operator.finetunejob.build import owner_of, request_config_map
from tunegate_operator.names import REQUEST_KEY


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("apiVersion", "example.com/v1"),
        ("apiVersion", "v1"),
        ("kind", "EvalGate"),
        ("name", "another"),
        ("uid", "another"),
        ("controller", None),
    ],
)
def test_config_map_with_another_owner_reference_is_no_record(field: str, value: Any) -> None:
    """The policies of the chart let users write ConfigMaps without an owner of the group tunegate.dev."""
    metadata = {"namespace": "default", "uid": "uid", "resourceVersion": "1"}
    job = FineTuneJob.model_validate(changed(make_job().obj(), {"metadata.uid": "uid"}))
    made = request_config_map(
        job, Request(name=job.metadata.name, namespace="default", uid="uid", spec=job.spec, gates=[])
    )
    made["metadata"] |= metadata | {"uid": "uid-of-the-config-map"}

    def read(config_map: Any) -> Request | None:
        cache = Cache()
        cache.put(config_map)
        return read_record(cache, owner_of(job), made["metadata"]["name"], REQUEST_KEY, Request)

    assert read(made) is not None
    assert read(changed(made, {f"metadata.ownerReferences.0.{field}": value})) is None
