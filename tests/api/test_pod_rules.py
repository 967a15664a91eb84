"""What may not stand in spec.podTemplate."""

from typing import Any

import pytest

from support.manifests import Changes, changed, finetunejob, table, told
from tunegate_api.contract import Request, Role
from tunegate_api.v1alpha1 import FineTuneJob
from tunegate_operator.finetunejob.build import Step, child_job

POD = "spec.podTemplate"
OWNED = "is set by the operator or the cluster: leave it out"
TYPES = "give one of configMap, secret, persistentVolumeClaim, emptyDir, ephemeral, csi beside the name"


@table(
    [
        (
            "our label",
            {f"{POD}.labels": {"tunegate.dev/job": "x"}},
            f"{POD}.labels.tunegate.dev/job: {OWNED}",
        ),
        (
            "the label that says who manages",
            {f"{POD}.labels": {"app.kubernetes.io/managed-by": "me"}},
            f"{POD}.labels.app.kubernetes.io/managed-by: {OWNED}",
        ),
        ("a label of Jobs", {f"{POD}.labels": {"job-name": "x"}}, f"{POD}.labels.job-name: {OWNED}"),
        (
            "Kueue's label",
            {f"{POD}.labels": {"kueue.x-k8s.io/queue-name": "a"}},
            f"{POD}.labels.kueue.x-k8s.io/queue-name: {OWNED}",
        ),
        (
            "our annotation",
            {f"{POD}.annotations": {"local.tunegate.dev/owner-uid": "x"}},
            f"{POD}.annotations.local.tunegate.dev/owner-uid: {OWNED}",
        ),
        (
            "a variable of the trainer",
            {f"{POD}.env": [{"name": "TUNEGATE_ROOT", "value": "/"}]},
            f"{POD}.env[0].name: TUNEGATE_ROOT is set by the operator or the trainer: leave it out",
        ),
        (
            "the number of threads",
            {f"{POD}.env": [{"name": "OMP_NUM_THREADS", "value": "64"}]},
            f"{POD}.env[0].name: OMP_NUM_THREADS is set by the operator or the trainer: "
            "give resources.cpu instead",
        ),
        (
            "a variable that loads code",
            {f"{POD}.env": [{"name": "PYTHONPATH", "value": "/mnt/mine"}]},
            f"{POD}.env[0].name: PYTHONPATH decides which code runs: leave it out, build it into the image",
        ),
        (
            "a library loaded first",
            {f"{POD}.env": [{"name": "LD_PRELOAD", "value": "/mnt/x.so"}]},
            f"{POD}.env[0].name: LD_PRELOAD decides which code runs",
        ),
        (
            "a variable without a name",
            {f"{POD}.env": [{"value": "x"}]},
            f"{POD}.env[0]: give name, which names the environment variable",
        ),
        (
            "a variable given twice",
            {f"{POD}.env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]},
            f"{POD}.env[1].name: A is already used by {POD}.env[0]: each name once",
        ),
        (
            "a variable with two values",
            {f"{POD}.env": [{"name": "A", "value": "1", "valueFrom": {"secretKeyRef": {}}}]},
            f"{POD}.env[0].valueFrom: value and valueFrom are given together: give one of them",
        ),
        (
            "a folder of the node",
            {f"{POD}.volumes": [{"name": "certificates", "hostPath": {"path": "/"}}]},
            f"{POD}.volumes[0]: {TYPES}, not hostPath",
        ),
        (
            "a token of the API server",
            {f"{POD}.volumes": [{"name": "certificates", "projected": {"sources": []}}]},
            f"{POD}.volumes[0]: {TYPES}, not projected",
        ),
        (
            "a volume of two types",
            {f"{POD}.volumes": [{"name": "certificates", "emptyDir": {}, "hostPath": {"path": "/"}}]},
            f"{POD}.volumes[0]: {TYPES}, not emptyDir, hostPath",
        ),
        (
            "a volume of no type",
            {f"{POD}.volumes": [{"name": "certificates"}]},
            f"{POD}.volumes[0]: {TYPES}",
        ),
        (
            "a volume without a name",
            {f"{POD}.volumes.1": {"emptyDir": {}}},
            f"{POD}.volumes[1]: give name, which names the volume",
        ),
        (
            "two volumes of one name",
            {f"{POD}.volumes.1": {"name": "certificates", "emptyDir": {}}},
            f"{POD}.volumes[1].name: certificates is already used by {POD}.volumes[0]: each name once",
        ),
        (
            "a mount of no volume",
            {f"{POD}.volumeMounts.0.name": "other"},
            f"{POD}.volumeMounts[0].name: other is none of {POD}.volumes, which are: certificates",
        ),
        (
            "a mount of the operator's volume",
            {f"{POD}.volumeMounts.0.name": "workspace"},
            f"{POD}.volumeMounts[0].name: workspace is none of {POD}.volumes",
        ),
        (
            "a mount over the trainer",
            {f"{POD}.volumeMounts.0.mountPath": "/usr/lib/python3"},
            f'{POD}.volumeMounts[0].mountPath: is "/usr/lib/python3": must be a folder below /mnt',
        ),
        (
            "a mount that leaves its folder",
            {f"{POD}.volumeMounts.0.mountPath": "/mnt/../tunegate"},
            f'{POD}.volumeMounts[0].mountPath: is "/mnt/../tunegate": must be a folder below /mnt',
        ),
        (
            "a mount without a path",
            {f"{POD}.volumeMounts": [{"name": "certificates"}]},
            f"{POD}.volumeMounts[0]: give mountPath, a folder below /mnt",
        ),
    ]
)
def test_what_the_operator_owns_is_refused(changes: Changes, said: str) -> None:
    problems = told(changed(finetunejob(), changes))
    assert any(problem.startswith(said) for problem in problems), problems


@pytest.mark.parametrize("role", Role)
def test_every_volume_of_the_operator_has_a_name_that_nobody_else_may_use(role: Role) -> None:
    manifest: dict[str, Any] = finetunejob()
    manifest["metadata"] |= {"uid": "0f7c9c1e"}
    manifest["spec"]["model"] = {"uri": "pvc://models/a"}
    job = FineTuneJob.model_validate(manifest)
    request = Request(name="orders", namespace="default", uid="0f7c9c1e", spec=job.spec, gates=[])
    template = child_job(job, request, Step(role), 1, image="trainer")["spec"]["template"]["spec"]
    ours = [volume["name"] for volume in template["volumes"] if volume["name"] != "certificates"]
    volumes = [{"name": name, "emptyDir": {}} for name in ours]
    problems = told(changed(manifest, {f"{POD}.volumes": volumes, f"{POD}.volumeMounts": []}))
    assert len(problems) == len(ours)
    variables = [v["name"] for v in template["containers"][0]["env"] if v["name"] != "HTTPS_PROXY"]
    env = [{"name": name, "value": "x"} for name in variables]
    assert len(told(changed(manifest, {f"{POD}.env": env}))) == len(variables) > 0
