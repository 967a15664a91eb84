"""A pod counts only if it is what the pod template of its Job makes."""

from copy import deepcopy

import pytest

from support.forged_pods import forgeries
from support.world import World
from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.own_pods import pod_problem
from tunegate_operator.engine.prune import prune

SOCKET = {"name": "datadog", "mountPath": "/var/run/datadog"}
IDENTITY = {"name": "identity", "mountPath": "/var/run/secrets/eks.amazonaws.com/serviceaccount"}
DIFFERENCES = {
    "few-labels": "label tunegate.dev/job",
    "all-labels": "args, command, env, image",
    "two-owners": "args, command, env, image",
    "other-attempt": "label tunegate.dev/attempt",
    "other-role": "label tunegate.dev/role",
    "image": "its image differ",
    "command": "its command differ",
    "args": "its args differ",
    "variable": "its env differ",
    "changed-variable": "its env differ",
    "variables-of-a-config-map": "its envFrom differ",
    "hook": "its lifecycle differ",
    "probe": "its livenessProbe differ",
    "termination-message": "its terminationMessagePath differ",
    "mount": "its volumeMounts, volumes differ",
    "mount-in-disguise": "its volumeMounts, volumes differ",
    "token": "its containers differ",
    "own-token": "its containers differ",
    "claim": "its containers differ",
    "services": "its enableServiceLinks differ",
    "init-container": "its containers differ",
    "processes": "its shareProcessNamespace differ",
    "host-name": "its hostAliases differ",
    "name-server": "its dnsConfig, dnsPolicy differ",
    "account": "its serviceAccountName differ",
}


@pytest.fixture(scope="module")
def objects() -> tuple[Object, Object]:
    """A training Job, and its pod."""
    world = World(posts=True)
    world.apply_all()
    world.until_checkpoint()
    [job] = [one for one in world.cluster.as_user.list_objects("Job") if "-train-" in one["metadata"]["name"]]
    pods = world.cluster.as_user.list_objects("Pod")
    [pod] = [one for one in pods if one["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]]
    return job, pod


def problem(pod: Object, job: Object) -> str:
    return pod_problem(prune(pod)[0], prune(job)[0])


def with_container(pod: Object, **changes: object) -> Object:
    changed = deepcopy(pod)
    changed["spec"]["containers"][0] |= changes
    return changed


def test_pod_of_the_job_counts(objects):
    job, pod = objects
    assert problem(pod, job) == ""


@pytest.mark.parametrize("name", DIFFERENCES)
def test_forged_pod_does_not_count(objects, name):
    job, pod = objects
    forged = forgeries(pod, job)
    assert DIFFERENCES.keys() == forged.keys()
    metadata = {"namespace": "default", "uid": "forged", "resourceVersion": "1"}
    forged[name]["metadata"] |= metadata
    assert DIFFERENCES[name] in problem(forged[name], job)


def test_pod_with_a_debug_container_does_not_count(objects):
    job, pod = objects
    debugged = deepcopy(pod)
    debugged["spec"]["ephemeralContainers"] = [{"name": "debug", "image": "busybox"}]
    assert "ephemeralContainers" in problem(debugged, job)


def test_pod_with_less_memory_than_its_job_does_not_count(objects):
    job, pod = deepcopy(objects)
    job["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": {"memory": "8Gi"}}
    assert "memory" in problem(with_container(pod, resources={"limits": {"memory": "1Mi"}}), job)


def test_changes_by_admission_webhooks_are_accepted(objects):
    """By the scheduler, a LimitRange, a service mesh, and the web identities of clouds."""
    job, pod = objects
    own = pod["spec"]["containers"][0]
    proxy = {"name": "proxy", "image": "proxy", "volumeMounts": [{"name": "mesh", "mountPath": "/etc/mesh"}]}
    role = {"name": "AWS_ROLE_ARN", "value": "arn:aws:iam::111122223333:role/tuning"}
    changed = with_container(
        pod,
        env=[*own["env"], role],
        volumeMounts=[*own["volumeMounts"], IDENTITY, SOCKET],
        resources={"limits": {"memory": "1Gi"}},
        imagePullPolicy="Always",
    )
    spec = changed["spec"]
    spec["containers"] = [proxy, *spec["containers"]]
    spec["initContainers"] = [proxy | {"name": "init"}]
    spec["volumes"] = [
        *spec["volumes"],
        *({"name": name, "emptyDir": {}} for name in ("mesh", "identity", "datadog")),
    ]
    spec |= {"nodeName": "node-1", "priority": 7, "serviceAccountName": "default", "tolerations": [{}]}
    spec["dnsConfig"] = {"options": [{"name": "ndots", "value": "2"}]}
    assert problem(changed, job) == ""
