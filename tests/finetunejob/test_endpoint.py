"""Pods that ask or check the endpoint of a gate get the Secret with its API key, and no others."""

import pytest

from support.builders import make_gate, make_job
from support.world import World

ENDPOINT = {"url": "https://serving.internal/v1", "model": "extractor", "secretName": "serving-key"}


@pytest.mark.parametrize(("role", "is_mounted"), [("data", True), ("train", False), ("gate", True)])
def test_pods_that_need_the_servers_key_mount_its_secret(role, is_mounted):
    world = World()
    world.apply_all(
        make_job().obj(),
        gate=make_gate().with_spec(compareWith=[{"type": "Endpoint", "endpoint": ENDPOINT}]).obj(),
    )
    world.until_job(role)
    (job,) = world.active_jobs()
    volumes = job["spec"]["template"]["spec"]["volumes"]
    secrets = [volume["secret"]["secretName"] for volume in volumes if "secret" in volume]
    assert ("serving-key" in secrets) is is_mounted
