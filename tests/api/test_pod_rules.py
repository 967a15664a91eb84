"""What may not stand in spec.podTemplate."""

from typing import Any

import pytest

from support.manifests import changed, finetunejob, told
from tunegate_api.contract import Request, Role
from tunegate_api.v1alpha1 import FineTuneJob
from tunegate_operator.finetunejob.build import PodSettings, ReportTo, Step, child_job

POD = "spec.podTemplate"
OWNED = "is set by the operator or the cluster: leave it out"
TYPES = "give one of configMap, secret, persistentVolumeClaim, emptyDir, ephemeral, csi beside the name"


@pytest.mark.parametrize("type", ["hostPath", "projected"])
def test_a_volume_that_reaches_into_the_node_or_the_api_server_is_no_field(type: str) -> None:
    problems = told(changed(finetunejob(), {f"{POD}.volumes": [{"name": "certificates", type: {}}]}))
    assert any(p.startswith(f"{POD}.volumes[0].{type}: unknown field") for p in problems), problems


@pytest.mark.parametrize("role", Role)
def test_every_volume_of_the_operator_has_a_name_that_nobody_else_may_use(role: Role) -> None:
    manifest: dict[str, Any] = finetunejob()
    manifest["metadata"] |= {"uid": "0f7c9c1e"}
    manifest["spec"]["model"] = {"uri": "pvc://models/a"}
    job = FineTuneJob.model_validate(manifest)
    request = Request(name="orders", namespace="default", uid="0f7c9c1e", spec=job.spec, gates=[])
    pods = PodSettings("trainer", ReportTo("https://tunegate", "PEM"))
    template = child_job(job, request, Step(role), 1, pods=pods)["spec"]["template"]["spec"]
    ours = [volume["name"] for volume in template["volumes"] if volume["name"] != "certificates"]
    volumes = [{"name": name, "emptyDir": {}} for name in ours]
    problems = told(changed(manifest, {f"{POD}.volumes": volumes, f"{POD}.volumeMounts": []}))
    assert len(problems) == len(ours)
    variables = [v["name"] for v in template["containers"][0]["env"] if v["name"] != "HTTPS_PROXY"]
    env = [{"name": name, "value": "x"} for name in variables]
    assert len(told(changed(manifest, {f"{POD}.env": env}))) == len(variables)
