"""Pods with which a user with Kubernetes' role ``edit`` imitates those of a child Job."""

import copy
from datetime import UTC, datetime
from typing import Any

from support.child_attacks import EVIL, EVIL_CONTAINER
from support.fake_kubelet import FORGED
from tunegate_api.contract.baselines import MeasuredBaseline
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.process import Outcome, Termination
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.v1alpha2.reasons import Reason
from tunegate_operator.engine.owners import owner_reference

Object = dict[str, Any]
IMAGE_ID = "evil@sha256:" + "e" * 64
FORGED_DIGEST = "f" * 64
_CODE = "/usr/local/lib/python3.11/site-packages/tunegate_trainer"
_HOOK = {"exec": {"command": ["sh", "-c", "evil"]}}


def forgeries(pod: Object, job: Object) -> dict[str, Object]:
    """Return the manifests of forged pods by their names.
    ``pod`` is a pod of the child Job ``job``."""
    # Without the label batch.kubernetes.io/controller-uid, by which the Job controller would count them.
    labels = {k: v for k, v in pod["metadata"]["labels"].items() if "tunegate" in k + v}
    spec, few = pod["spec"], {k: v for k, v in labels.items() if not k.startswith("tunegate.dev/")}
    [container] = spec["containers"]
    uid = job["metadata"]["ownerReferences"][0]["uid"]
    [claim] = [v["persistentVolumeClaim"] for v in spec["volumes"] if "persistentVolumeClaim" in v]
    owner = owner_reference(job)
    del owner["blockOwnerDeletion"]  # an admission plugin of some clusters refuses it first
    other = owner | {"name": "other", "uid": "0b7f3d4e-0000-0000-0000-000000000000", "controller": False}

    def build(name: str, labels: Object, spec: Object, *owners: Object) -> Object:
        metadata: Object = {"name": name, "labels": labels | {FORGED: "true"}}
        owned = metadata | {"ownerReferences": [*(owners or [owner])]}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": owned, "spec": copy.deepcopy(spec)}

    def copied(name: str, **changes: Any) -> Object:
        """Build a pod that differs from the genuine one only in these fields of its spec."""
        return build(name, labels, spec | changes)

    def changed(name: str, **changes: Any) -> Object:
        """Build a pod that differs from the genuine one only in these fields of its container."""
        return copied(name, containers=[container | changes])

    def beside(volume: str) -> Object:
        """Return a second container that mounts a volume of the genuine pod."""
        mount = {"name": volume, "mountPath": "/stolen"}
        return EVIL_CONTAINER | {"name": "beside", "volumeMounts": [mount]}

    def mounting(name: str, path: str) -> Object:
        """Build a pod that mounts a ConfigMap at ``path``."""
        return copied(
            name,
            volumes=[*spec["volumes"], {"name": "code", "configMap": {"name": "evil"}}],
            containers=[
                container
                | {"volumeMounts": [*container["volumeMounts"], {"name": "code", "mountPath": path}]}
            ],
        )

    def with_volume(name: str, source: Object) -> Object:
        """Build a pod whose second container mounts a volume of its own."""
        volumes = [*spec["volumes"], {"name": "own", **source}]
        return copied(name, containers=[container, beside("own")], volumes=volumes)

    token = {"audience": f"tunegate.dev/{uid}", "expirationSeconds": 3600, "path": "token"}
    variables = container["env"]
    made = [
        build("few-labels", few, EVIL),
        build("all-labels", labels, EVIL),
        build("two-owners", labels, EVIL, owner, other),
        build("other-attempt", labels | {"tunegate.dev/attempt": "9"}, spec),
        build("other-role", labels | {"tunegate.dev/role": "publish"}, spec),
        changed("image", image="evil"),
        changed("command", command=["evil"]),
        changed("args", args=[*container["args"], "--evil"]),
        changed("variable", env=[*variables, {"name": "PYTHONPATH", "value": "/tmp"}]),
        changed("changed-variable", env=[*variables[:-1], variables[-1] | {"value": "evil"}]),
        changed("variables-of-a-config-map", envFrom=[{"configMapRef": {"name": "evil"}}]),
        changed("hook", lifecycle={"postStart": _HOOK}),
        changed("probe", livenessProbe=_HOOK),
        changed("termination-message", terminationMessagePath="/tmp/message"),
        mounting("mount", _CODE),
        mounting("mount-in-disguise", f"/var/run/secrets/../../..{_CODE}"),
        copied("token", containers=[container, beside("report")]),
        with_volume("own-token", {"projected": {"sources": [{"serviceAccountToken": token}]}}),
        with_volume("claim", {"persistentVolumeClaim": claim}),
        copied("services", enableServiceLinks=True),
        copied("init-container", initContainers=[beside("tmp")]),
        copied("processes", shareProcessNamespace=True),
        copied("host-name", hostAliases=[{"ip": "192.0.2.1", "hostnames": ["judge"]}]),
        copied("name-server", dnsPolicy="None", dnsConfig={"nameservers": ["192.0.2.1"]}),
        copied("account", serviceAccountName="evil"),
    ]
    return {each["metadata"]["name"]: each for each in made}


def ends(claim: str) -> Object:
    """Return the status with which a node shows that a pod ended, and claimed a baseline of the attacker's
    choice, or that it failed for the reason ``claim``."""
    baseline = MeasuredBaseline(key=sha256_text(claim), sha256=FORGED_DIGEST)
    failure = Failure(reason=Reason.USER_ERROR, message="forged", hint="forged")
    message = Termination(exit_code=0, outcome=Outcome.COMPLETED, baselines=[baseline])
    if claim == "failure":
        message = Termination(exit_code=13, outcome=Outcome.FAILED, failure=failure, baselines=[baseline])
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ended: Object = {"exitCode": message.exit_code, "startedAt": now, "finishedAt": now}
    ended |= {"message": message.model_dump_json(by_alias=True, exclude_none=True), "reason": "Completed"}
    if claim == "memory":
        ended |= {"exitCode": 137, "reason": "OOMKilled"}
    container = {"name": "trainer", "image": "evil", "imageID": IMAGE_ID, "ready": False, "restartCount": 0}
    phase = "Failed" if ended["exitCode"] else "Succeeded"
    return {"phase": phase, "containerStatuses": [container | {"state": {"terminated": ended}}]}
