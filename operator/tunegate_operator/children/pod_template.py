"""Merge the user's settings, ``spec.podTemplate``, into the pod template that the operator builds."""

from tunegate_api.contract.process import Role
from tunegate_api.v1alpha2.environment import pods_of
from tunegate_api.v1alpha2.pods import PodTemplate
from tunegate_operator.engine.cluster import Object


def with_user_settings(template: Object, wanted: PodTemplate) -> Object:
    """Return the pod template ``template`` with the user's settings ``wanted``. Validation has already
    refused settings that conflict with the operator's: see ``v1alpha2/pods.py`` of the API."""
    metadata, spec = template["metadata"], template["spec"]
    (container,) = spec["containers"]
    settings = wanted.to_wire()
    volumes, mounts = [*settings.get("volumes", [])], [*settings.get("volumeMounts", [])]
    if wanted.shared_memory:
        memory = {"medium": "Memory", "sizeLimit": wanted.shared_memory}
        volumes.append({"name": "shared-memory", "emptyDir": memory})
        mounts.append({"name": "shared-memory", "mountPath": "/dev/shm"})  # noqa: S108 - the pod's own
    container = container | {
        "env": [*container["env"], *settings.get("env", [])],
        "volumeMounts": [*container["volumeMounts"], *mounts],
    }
    copied_fields = (
        "nodeSelector",
        "tolerations",
        "affinity",
        "priorityClassName",
        "serviceAccountName",
        "imagePullSecrets",
    )
    return {
        "metadata": {
            "labels": settings.get("labels", {}) | metadata["labels"],
            "annotations": settings.get("annotations", {}),
        },
        "spec": spec
        | {field: settings[field] for field in copied_fields if field in settings}
        | {"containers": [container], "volumes": [*spec["volumes"], *volumes]},
    }


def for_role(wanted: PodTemplate, role: Role) -> PodTemplate:
    """Return the user's settings for pods of one role, with only the environment variables that this role
    gets.

    Cleanup and report pods get no variables, volumes and shared memory: they need none, and the objects to
    which variables and volumes refer may be deleted by then.
    """
    if not role.sends_metrics:
        gone = ("env", "volumes", "volume_mounts", "shared_memory")
        return wanted.model_copy(update=dict.fromkeys(gone))
    variables = [variable for variable in wanted.env or () if role in pods_of(variable.name)]
    return wanted.model_copy(update={"env": variables})
